//! Sparse vectors by term: for each term, the rows that have it.
//!
//! IDF is not stored. It is computed from the lengths of the lists at each query, so it always fits
//! the rows that the index holds at that moment.

use std::collections::HashMap;

/// A row that has the term, and the term's weight there.
#[derive(Debug, Clone, Copy)]
struct Posting {
    row: u32,
    weight: f32,
}

/// The rows of each term, in ascending order, dead ones included until the next repack.
#[derive(Debug, Default)]
pub(super) struct Postings {
    lists: HashMap<u32, Vec<Posting>>,
}

impl Postings {
    /// Postings of one row.
    pub(super) fn of(row: u32, terms: &[(u32, f32)]) -> Self {
        let mut postings = Self::default();
        postings.push(row, terms);
        postings
    }

    pub(super) fn push(&mut self, row: u32, terms: &[(u32, f32)]) {
        for &(term, weight) in terms {
            // Most terms are word pairs that occur once: reserve one place, where `push` reserves four.
            let list = self
                .lists
                .entry(term)
                .or_insert_with(|| Vec::with_capacity(1));
            list.push(Posting { row, weight });
        }
    }

    /// The score of every live row that has a term of the query: the sum over their common terms
    /// of query weight x IDF x row weight. Terms are taken in the query's order, so equal rows get
    /// equal scores.
    pub(super) fn scores(
        &self,
        query: &[(u32, f32)],
        n_rows: usize,
        n_dead: usize,
        is_live: impl Fn(u32) -> bool,
    ) -> Vec<(u32, f32)> {
        let mut sums = vec![0.0f32; n_rows];
        let mut touched = Vec::new();
        for (term, query_weight) in query {
            let Some(list) = self.lists.get(term) else {
                continue;
            };
            let has_term = match n_dead {
                0 => list.len(),
                _ => list.iter().filter(|posting| is_live(posting.row)).count(),
            };
            let factor = query_weight * idf(n_rows - n_dead, has_term);
            for posting in list {
                let sum = &mut sums[posting.row as usize];
                let before = *sum;
                *sum += factor * posting.weight;
                if before == 0.0 && *sum > 0.0 {
                    touched.push(posting.row);
                }
            }
        }
        touched.retain(|&row| n_dead == 0 || is_live(row));
        touched
            .into_iter()
            .map(|row| (row, sums[row as usize]))
            .collect()
    }

    /// Gives the rows their new numbers and drops those without one.
    pub(super) fn repack(&mut self, new_row: &[Option<u32>]) {
        self.lists.retain(|_, list| {
            list.retain_mut(|posting| match new_row[posting.row as usize] {
                Some(row) => {
                    posting.row = row;
                    true
                }
                None => false,
            });
            list.shrink_to_fit();
            !list.is_empty()
        });
    }
}

/// BM25's inverse document frequency in its form that stays above 0, for a term that `has_term` of
/// `n_rows` rows have.
fn idf(n_rows: usize, has_term: usize) -> f32 {
    let (n, df) = (n_rows as f32, has_term as f32);
    (1.0 + (n - df + 0.5) / (df + 0.5)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_worked_out_by_hand() {
        let mut postings = Postings::of(0, &[(1, 2.0), (2, 1.0)]);
        postings.push(1, &[(1, 0.5)]);
        postings.push(2, &[(3, 9.0)]);
        let scores = postings.scores(&[(1, 1.0), (2, 3.0), (7, 5.0)], 3, 0, |_| true);
        // term 1 is in 2 of 3 rows: idf = ln(1 + 1.5 / 2.5) = 0.470004
        // term 2 is in 1 of 3 rows: idf = ln(1 + 2.5 / 1.5) = 0.980829
        let expected = [0.470004 * 2.0 + 3.0 * 0.980829, 0.470004 * 0.5];
        assert_eq!(scores.iter().map(|s| s.0).collect::<Vec<_>>(), [0, 1]);
        for ((_, score), expected) in scores.into_iter().zip(expected) {
            assert!((score - expected).abs() < 1e-5, "{score} is not {expected}");
        }
    }

    #[test]
    fn dead_rows_count_for_nothing() {
        let mut postings = Postings::of(0, &[(1, 2.0)]);
        postings.push(1, &[(1, 0.5)]);
        let scores = postings.scores(&[(1, 1.0)], 2, 1, |row| row == 1);
        // 1 row of 1: idf = ln(1 + 0.5 / 1.5)
        assert_eq!(scores, [(1, idf(1, 1) * 0.5)]);
        postings.repack(&[None, Some(0)]);
        assert_eq!(
            postings.scores(&[(1, 1.0)], 1, 0, |_| true),
            [(0, idf(1, 1) * 0.5)]
        );
    }
}
