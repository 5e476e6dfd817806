//! The best few of many scores.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// The `top_k` rows with the highest scores of those offered, ties by chunk id. Holds `top_k` rows
/// at most, and no more than were offered.
#[derive(Debug)]
pub(super) struct Best<'i> {
    top_k: usize,
    /// The worst on top.
    heap: BinaryHeap<Candidate<'i>>,
}

/// Better ones are smaller.
#[derive(Debug)]
struct Candidate<'i> {
    score: f32,
    chunk_id: &'i str,
    row: u32,
}

impl<'i> Best<'i> {
    pub(super) fn new(top_k: usize) -> Self {
        Self {
            top_k,
            heap: BinaryHeap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Takes a row if its score is among the best and `admit` gives its chunk id. `admit` is asked
    /// only about scores that are good enough.
    pub(super) fn offer(&mut self, row: u32, score: f32, admit: impl FnOnce() -> Option<&'i str>) {
        let is_full = self.heap.len() >= self.top_k;
        if is_full && self.heap.peek().is_none_or(|worst| score < worst.score) {
            return;
        }
        if let Some(chunk_id) = admit() {
            self.put(Candidate {
                score,
                chunk_id,
                row,
            });
        }
    }

    /// Takes over the rows of another part of the index.
    pub(super) fn merge(mut self, other: Self) -> Self {
        for candidate in other.heap {
            self.put(candidate);
        }
        self
    }

    /// Rows and scores, best first.
    pub(super) fn into_rows(self) -> Vec<(u32, f32)> {
        let sorted = self.heap.into_sorted_vec().into_iter();
        sorted.map(|best| (best.row, best.score)).collect()
    }

    fn put(&mut self, candidate: Candidate<'i>) {
        if self.heap.len() < self.top_k {
            self.heap.push(candidate);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && candidate < *worst
        {
            *worst = candidate; // the heap is put in order when `worst` is dropped
        }
    }
}

impl Ord for Candidate<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = other.score.total_cmp(&self.score);
        by_score.then_with(|| self.chunk_id.cmp(other.chunk_id))
    }
}

impl PartialOrd for Candidate<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [&str; 4] = ["c", "b", "a", "d"];

    fn best(scores: &[(u32, f32)], top_k: usize) -> Best<'static> {
        let mut best = Best::new(top_k);
        for &(row, score) in scores {
            best.offer(row, score, || Some(IDS[row as usize]));
        }
        best
    }

    #[test]
    fn ties_go_to_the_lower_id_and_any_top_k_will_do() {
        let scores = [(0, 1.0), (1, 2.0), (2, 1.0), (3, -1.0)];
        assert_eq!(best(&scores, 0).into_rows(), []);
        assert_eq!(best(&scores, 2).into_rows(), [(1, 2.0), (2, 1.0)]);
        let all = [(1, 2.0), (2, 1.0), (0, 1.0), (3, -1.0)];
        assert_eq!(best(&scores, usize::MAX).into_rows(), all);
    }

    #[test]
    fn parts_merge_into_the_best_of_both() {
        let merged = best(&[(0, 1.0), (3, 0.5)], 2).merge(best(&[(1, 2.0), (2, 1.0)], 2));
        assert_eq!(merged.into_rows(), [(1, 2.0), (2, 1.0)]);
    }

    #[test]
    fn rows_that_are_not_admitted_take_no_place() {
        let mut best = Best::new(1);
        best.offer(0, 2.0, || None);
        best.offer(1, 1.0, || Some("b"));
        best.offer(2, 0.5, || panic!("too low a score to ask about"));
        assert_eq!(best.into_rows(), [(1, 1.0)]);
    }
}
