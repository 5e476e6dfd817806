//! `hkvd`: high-KV-deviation tokens (CacheBlend, arXiv 2405.16444, sections 4.2 and 4.3).
//!
//! Cost: all candidate rows run through layers `0..layer` and through the K/V projections of the
//! check layer; stored KV is read from the check layer on. Needs nothing at ingest.

use crate::fusion::selection::{Deviation, Schedule};

/// The comparison of fresh with stored KV: at one layer, or at every layer from that one on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check {
    pub(super) layer: usize,
    pub(super) deviation: Deviation,
    pub(super) schedule: Schedule,
}

impl Check {
    /// The comparison wanted at this layer.
    pub(crate) fn at(&self, layer: usize) -> Option<Deviation> {
        self.schedule
            .compares_at(layer, self.layer)
            .then_some(self.deviation)
    }

    /// The factor on the budget at this layer: 1, or falling linearly from 1.5 at the check layer to
    /// 0.5 at the last layer.
    pub(crate) fn factor(&self, layer: usize, n_layers: usize) -> f64 {
        let span = n_layers - 1 - self.layer;
        match self.schedule {
            Schedule::Gradual if span > 0 => 1.5 - (layer - self.layer) as f64 / span as f64,
            Schedule::Gradual | Schedule::Fixed => 1.0,
        }
    }
}
