//! `random`: uniformly random candidate rows under the same budget, from a seed. The baseline.
//!
//! Cost: rows are known before layer 0. Needs nothing at ingest.

use super::ranker::{Candidates, Ranker};
use crate::sampling;

pub(super) struct Random {
    pub(super) seed: u64,
}

impl Ranker for Random {
    fn scores(&self, candidates: &Candidates, _observed: &[Vec<f32>]) -> Vec<f32> {
        let mut random = sampling::Random::new(Some(self.seed));
        let scores = candidates.rows().into_iter().map(|_| random.unit() as f32);
        scores.collect()
    }
}
