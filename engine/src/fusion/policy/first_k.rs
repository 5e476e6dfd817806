//! `first-k`: the first tokens of each chunk, where a chunk computed alone puts the attention sink
//! it would not have inside a prompt (EPIC, arXiv 2410.15332).
//!
//! Cost: rows are known before layer 0, so nothing waits for stored KV. Needs nothing at ingest.

use super::ranker::{Candidates, Ranker};

pub(super) struct FirstK;

impl Ranker for FirstK {
    fn scores(&self, candidates: &Candidates, _observed: &[Vec<f32>]) -> Vec<f32> {
        let of_chunk = |n: usize| (0..n).map(move |offset| 1.0 - offset as f32 / n as f32);
        let lengths = candidates.chunks.iter().map(ExactSizeIterator::len);
        lengths.flat_map(of_chunk).collect()
    }
}
