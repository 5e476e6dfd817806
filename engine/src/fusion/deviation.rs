//! The true deviation of stored KV from a real full prefill, at every layer, for the policy `oracle` and for
//! evaluation.

use super::context::FusionContext;
use super::distance::Pair;
use super::executor::{LayerHooks, LayerView};
use super::interrupt::{Interrupt, StopCheck};
use super::selection::Deviation;
use super::stored::Stored;
use crate::kernel::FusionBackend;
use crate::kv::KvCache;

/// Compares the KV of a full prefill with the stored KV of the same layer.
pub(super) struct TrueDeviation<'a, B: FusionBackend> {
    pub which: Deviation,
    /// Rows to compare, ascending.
    pub candidates: &'a [usize],
    pub stored: &'a mut Stored<B>,
    /// Where stored KV is placed: the full prefill writes to a separate cache.
    pub placed_in: &'a mut KvCache<B>,
    /// Per layer so far, the relative deviation of each candidate; empty if no stored KV is read.
    pub observed: &'a mut Vec<Vec<f32>>,
}

impl<B: FusionBackend> LayerHooks<B> for TrueDeviation<'_, B> {
    fn place(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        layer_idx: usize,
        _cache: &mut KvCache<B>,
        stop: StopCheck<'_>,
    ) -> Result<(), Interrupt> {
        self.stored
            .place_up_to(ctx, self.placed_in, layer_idx, stop)
    }

    fn look(
        &mut self,
        _ctx: &mut FusionContext<'_, B>,
        view: &LayerView<'_, B>,
        _cache: &mut KvCache<B>,
    ) -> Option<Vec<usize>> {
        let placed = self.stored.placed(view.step.layer_idx);
        let placed = placed.filter(|_| !self.candidates.is_empty());
        self.observed.push(placed.map_or_else(Vec::new, |placed| {
            let pair = Pair::of(self.candidates, &view.rows.positions, view.fresh, placed);
            pair.relative_distance(self.which)
        }));
        None
    }
}
