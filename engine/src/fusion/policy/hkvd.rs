//! `hkvd`: high-KV-deviation tokens (CacheBlend, arXiv 2405.16444, sections 4.2 and 4.3).
//!
//! Cost: all candidate rows run through layers `0..check_layer` and through the K/V projections of
//! the check layer; stored KV is read from the check layer on. Needs nothing at ingest.

use super::{Candidates, Deviation, RowSelector, Schedule};

pub(super) struct Hkvd {
    check_layer: usize,
    deviation: Deviation,
    schedule: Schedule,
    candidates: Candidates,
}

impl Hkvd {
    pub(super) fn new(
        check_layer: usize,
        deviation: Deviation,
        schedule: Schedule,
        candidates: Candidates,
    ) -> Self {
        Self {
            check_layer,
            deviation,
            schedule,
            candidates,
        }
    }

    /// Rows alive after `layer`: `k`, or linear from 1.5 k at the check layer to 0.5 k at the last.
    fn n_rows(&self, layer: usize) -> usize {
        let k = self.candidates.budget();
        let span = self.candidates.n_layers - 1 - self.check_layer;
        match self.schedule {
            Schedule::Gradual if span > 0 => {
                let done = (layer - self.check_layer) as f64 / span as f64;
                (k as f64 * (1.5 - done)).ceil() as usize
            }
            Schedule::Gradual | Schedule::Fixed => k,
        }
    }
}

impl RowSelector for Hkvd {
    fn first_loaded_layer(&self) -> usize {
        self.check_layer
    }

    fn initial_rows(&self) -> Vec<usize> {
        self.candidates.rows()
    }

    fn deviation_at(&self, layer: usize) -> Option<Deviation> {
        let compares = match self.schedule {
            Schedule::Fixed => layer == self.check_layer,
            Schedule::Gradual => layer >= self.check_layer,
        };
        compares.then_some(self.deviation)
    }

    fn keep(&self, layer: usize, rows: &[usize], deviation: &[f32]) -> Vec<usize> {
        // A comparison that gave NaN (an overflow in f16) recomputes the row: it is not trusted.
        let rank = |i: usize| match deviation[i] {
            deviation if deviation.is_nan() => f32::INFINITY,
            deviation => deviation,
        };
        let mut order: Vec<usize> = (0..rows.len()).collect();
        // Most deviating first; a stable sort leaves ties in ascending position.
        order.sort_by(|&a, &b| rank(b).total_cmp(&rank(a)));
        let mut kept: Vec<usize> = order
            .into_iter()
            .take(self.n_rows(layer))
            .map(|i| rows[i])
            .collect();
        kept.sort_unstable();
        kept
    }
}
