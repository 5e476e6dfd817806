//! `oracle`: the rows whose stored KV deviates most from that of a real full prefill, over all
//! layers. The upper bound for selection by deviation.
//!
//! Cost: a full prefill before the fused one. For evaluation. Needs nothing at ingest.

use super::ranker::{Candidates, Probe, Ranker, mean_over_layers};
use crate::fusion::selection::Deviation;

pub(super) struct Oracle {
    pub(super) deviation: Deviation,
}

impl Ranker for Oracle {
    fn probe(&self) -> Option<Probe> {
        Some(Probe::Truth(self.deviation))
    }

    /// Deviations are relative to the layer's mean squared norm, so that all layers have equal weight.
    fn scores(&self, candidates: &Candidates, observed: &[Vec<f32>]) -> Vec<f32> {
        mean_over_layers(observed, candidates.rows().len())
    }
}
