//! Spending the budget: the rows alive at each layer, from the scores of the policies.

use std::collections::HashSet;
use std::ops::Range;

use super::hkvd::Check;
use super::ranker::Candidates;
use crate::fusion::selection::{Budget, Deviation};

/// Decides which candidate rows are alive at each layer.
pub(crate) struct Selector {
    candidates: Candidates,
    /// In the order of the union; `None` marks the policy that compares at a layer.
    scores: Vec<Option<Vec<f32>>>,
    check: Option<Check>,
}

impl Selector {
    /// `scores` holds one value per candidate for each policy that has ranked them.
    pub(crate) fn new(
        candidates: Candidates,
        scores: Vec<Option<Vec<f32>>>,
        check: Option<Check>,
    ) -> Self {
        Self {
            candidates,
            scores,
            check,
        }
    }

    /// Candidates alive at the input of layer 0, ascending.
    pub(crate) fn initial_rows(&self) -> Vec<usize> {
        match self.check {
            Some(_) => self.candidates.rows(),
            None => self.pick(&self.candidates.rows(), None, 1.0),
        }
    }

    /// The comparison to make at this layer between the candidates alive at its input.
    pub(crate) fn deviation_at(&self, layer: usize) -> Option<Deviation> {
        self.check.and_then(|check| check.at(layer))
    }

    /// Those of `rows` (ascending, with their deviation) that go on through this layer, ascending.
    pub(crate) fn keep(&self, layer: usize, rows: &[usize], deviation: &[f32]) -> Vec<usize> {
        let n_layers = self.candidates.n_layers;
        let factor = self
            .check
            .map_or(1.0, |check| check.factor(layer, n_layers));
        self.pick(rows, Some(deviation), factor)
    }

    /// The best of `rows` under `factor` times the budget, ascending. `compared` are the scores of
    /// the policy that compares at a layer.
    fn pick(&self, rows: &[usize], compared: Option<&[f32]>, factor: f64) -> Vec<usize> {
        let all = self.candidates.rows();
        let of_rows = |scores: &Vec<f32>| -> Vec<f32> {
            let found = rows.iter().filter_map(|row| all.binary_search(row).ok());
            found.map(|i| scores[i]).collect()
        };
        let scores = self.scores.iter().filter_map(|scores| match scores {
            Some(scores) => Some(of_rows(scores)),
            None => compared.map(<[f32]>::to_vec),
        });
        let scores: Vec<Vec<f32>> = scores.map(trusted).collect();
        let quotas = self.quotas(rows, &scores, factor);
        best_rows(rows, &scores, &quotas)
    }

    /// How many rows each group of rows may have; the groups cover the candidates in order.
    fn quotas(
        &self,
        rows: &[usize],
        scores: &[Vec<f32>],
        factor: f64,
    ) -> Vec<(Range<usize>, usize)> {
        let chunks = &self.candidates.chunks;
        let scaled = |n: usize| self.candidates.quota(n, factor);
        let k = scaled(chunks.iter().map(Range::len).sum());
        match self.candidates.budget {
            Budget::Prompt => vec![(0..usize::MAX, k)],
            Budget::Length => {
                let of_chunk = |chunk: &Range<usize>| (chunk.clone(), scaled(chunk.len()));
                chunks.iter().map(of_chunk).collect()
            }
            Budget::Score => {
                let mass = |chunk: &Range<usize>| mass_within(chunk, rows, scores);
                let room = |chunk: &Range<usize>| rows_within(chunk, rows).len();
                let claims: Vec<(f64, usize)> = chunks
                    .iter()
                    .map(|chunk| (mass(chunk), room(chunk)))
                    .collect();
                chunks.iter().cloned().zip(divide(k, &claims)).collect()
            }
        }
    }
}

/// Makes rows with a NaN score (an overflow in f16) rank first, so that they are recomputed.
fn trusted(mut scores: Vec<f32>) -> Vec<f32> {
    let bad = scores.iter_mut().filter(|score| score.is_nan());
    bad.for_each(|score| *score = f32::INFINITY);
    scores
}

/// Indices of `rows` that lie in `chunk`.
fn rows_within(chunk: &Range<usize>, rows: &[usize]) -> Range<usize> {
    let before = |end: usize| rows.partition_point(|&row| row < end);
    before(chunk.start)..before(chunk.end)
}

/// The chunk's part of each policy's total score, added up.
fn mass_within(chunk: &Range<usize>, rows: &[usize], scores: &[Vec<f32>]) -> f64 {
    let sum = |scores: &[f32]| -> f64 { scores.iter().map(|&score| f64::from(score)).sum() };
    let part = |scores: &Vec<f32>| {
        let total = sum(scores);
        let inside = sum(&scores[rows_within(chunk, rows)]);
        if total.is_finite() && total > 0.0 {
            inside / total
        } else {
            0.0
        }
    };
    scores.iter().map(part).sum()
}

/// Divides `k` in proportion to the claims' weights, no part larger than its room: units go one at a time to the
/// largest outstanding claim, and the first claim wins a tie.
fn divide(k: usize, claims: &[(f64, usize)]) -> Vec<usize> {
    let total: f64 = claims.iter().map(|(weight, _)| weight).sum();
    let weight = |i: usize| match total > 0.0 {
        true => claims[i].0 / total,
        false => 1.0 / claims.len() as f64,
    };
    let mut parts = vec![0; claims.len()];
    for _ in 0..k {
        let open = (0..claims.len()).filter(|&i| parts[i] < claims[i].1);
        let outstanding = |i: usize| k as f64 * weight(i) - parts[i] as f64;
        let Some(next) = open.reduce(|best, i| match outstanding(i) > outstanding(best) {
            true => i,
            false => best,
        }) else {
            break;
        };
        parts[next] += 1;
    }
    parts
}

/// Within each group, the policies name their best remaining row in turn until its quota is spent.
fn best_rows(rows: &[usize], scores: &[Vec<f32>], quotas: &[(Range<usize>, usize)]) -> Vec<usize> {
    let mut kept: Vec<usize> = quotas
        .iter()
        .flat_map(|(group, quota)| {
            let within = rows_within(group, rows);
            let rankings: Vec<Vec<usize>> = scores
                .iter()
                .map(|scores| ranking(within.clone(), scores))
                .collect();
            take_in_turn(&rankings, *quota)
        })
        .map(|i| rows[i])
        .collect();
    kept.sort_unstable();
    kept
}

/// Indices by descending score; a stable sort leaves ties in ascending position.
fn ranking(within: Range<usize>, scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = within.collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
}

/// Takes the first of the first ranking, then the first of the second not taken yet, and so on, `n` in all.
fn take_in_turn(rankings: &[Vec<usize>], n: usize) -> HashSet<usize> {
    let mut taken = HashSet::new();
    let mut next: Vec<_> = rankings.iter().map(|ranking| ranking.iter()).collect();
    while taken.len() < n {
        let before = taken.len();
        for ranking in &mut next {
            if taken.len() < n {
                taken.extend(ranking.find(|row| !taken.contains(*row)).copied());
            }
        }
        if taken.len() == before {
            break;
        }
    }
    taken
}

#[cfg(test)]
#[path = "select/tests.rs"]
mod tests;
