//! `anchors`: the rows the question attends to at a few critical layers, after it has run over a
//! compact stand-in for the context: a few anchor tokens per chunk (QCFuse, arXiv 2606.05875).
//!
//! Cost: the question runs over the anchors up to the deepest critical layer, and only the layers
//! up to that one must be loaded before the fused prefill begins. Anchors are found at ingest;
//! evenly spaced tokens stand in for chunks that have none. QCFuse profiles the critical layers;
//! here they are a setting, which `ragweave-eval tune` searches.

use super::ranker::{Candidates, Probe, ProbeKeys, Ranker, mean_over_layers};
use crate::fusion::selection::Pooling;

pub(super) struct Anchors {
    layers: Vec<usize>,
    pooling: Pooling,
}

impl Anchors {
    /// No layers means the middle one.
    pub(super) fn new(layers: &[usize], pooling: Pooling, n_layers: usize) -> Self {
        let mut layers = match layers {
            [] => vec![n_layers / 2],
            layers => layers.to_vec(),
        };
        layers.sort_unstable();
        layers.dedup();
        Self { layers, pooling }
    }
}

impl Ranker for Anchors {
    fn probe(&self) -> Option<Probe> {
        Some(Probe::Question {
            layers: self.layers.clone(),
            keys: ProbeKeys::Anchors,
            pooling: self.pooling,
        })
    }

    fn scores(&self, candidates: &Candidates, observed: &[Vec<f32>]) -> Vec<f32> {
        mean_over_layers(observed, candidates.rows().len())
    }
}
