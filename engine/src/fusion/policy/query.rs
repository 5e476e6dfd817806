//! `query`: the rows the question attends to. FusionRAG (arXiv 2601.12904) reads the last layer,
//! ProphetKV (arXiv 2602.02579) the mean over all layers.
//!
//! Cost: the question runs once over the stored KV of the whole prompt before the fused prefill
//! begins, so all layers of all chunks must have been loaded by then. Needs nothing at ingest.

use super::{Candidates, Probe, ProbeKeys, Ranker, mean_over_layers};
use crate::fusion::selection::{Pooling, QueryLayers};

pub(super) struct Query {
    layers: Vec<usize>,
    pooling: Pooling,
}

impl Query {
    pub(super) fn new(layers: QueryLayers, pooling: Pooling, n_layers: usize) -> Self {
        let layers = match layers {
            QueryLayers::Last => vec![n_layers - 1],
            QueryLayers::All => (0..n_layers).collect(),
        };
        Self { layers, pooling }
    }
}

impl Ranker for Query {
    fn probe(&self) -> Option<Probe> {
        Some(Probe::Question {
            layers: self.layers.clone(),
            keys: ProbeKeys::All,
            pooling: self.pooling,
        })
    }

    fn scores(&self, candidates: &Candidates, observed: &[Vec<f32>]) -> Vec<f32> {
        mean_over_layers(observed, candidates.rows().len())
    }
}
