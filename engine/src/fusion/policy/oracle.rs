//! `oracle`: the rows whose stored KV deviates most from that of a real full prefill, over all
//! layers. What selection by deviation could reach if it knew the outcome.
//!
//! Cost: a full prefill before the fused one. For evaluation. Needs nothing at ingest.

use super::{Candidates, Probe, Ranker, mean_over_layers};
use crate::fusion::selection::Deviation;

pub(super) struct Oracle {
    pub(super) deviation: Deviation,
}

impl Ranker for Oracle {
    fn probe(&self) -> Option<Probe> {
        Some(Probe::Truth(self.deviation))
    }

    /// Deviations are relative to the layer's mean squared norm, so that layers count alike.
    fn scores(&self, candidates: &Candidates, observed: &[Vec<f32>]) -> Vec<f32> {
        mean_over_layers(observed, candidates.rows().len())
    }
}
