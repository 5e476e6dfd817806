//! The prefill's own pass: shows each layer to the observer, corrects stored rows, compares KV, and lets the policy
//! narrow the rows.

use super::context::FusionContext;
use super::correct::correct;
use super::distance::Pair;
use super::executor::{LayerHooks, LayerView};
use super::interrupt::{Interrupt, StopCheck};
use super::policy::Selector;
use super::rows::common;
use super::schedule::LayerSchedule;
use super::stored::{Placed, Stored};
use crate::kernel::FusionBackend;
use crate::kv::{KvCache, LayerCache};

/// Sees each layer of a prefill once its rows are in the cache.
pub(crate) type Observer<'a, B> = &'a mut dyn FnMut(&LayerView<'_, B>, &LayerCache<B>);

/// What the policy decided during the pass.
#[derive(Default)]
pub(super) struct Decided {
    /// Candidates computed again at the last layer, ascending.
    pub recomputed: Vec<usize>,
    /// Of the deviation compared last, the share of rows not recomputed.
    pub deviation_left: Option<f64>,
}

/// The hooks of the pass that completes the KV.
pub(super) struct PrefillHooks<'a, 'o, B: FusionBackend> {
    pub schedule: &'a LayerSchedule,
    pub selector: Option<&'a Selector>,
    pub stored: &'a mut Stored<B>,
    pub decided: &'a mut Decided,
    pub observe: &'a mut (dyn FnMut(&LayerView<'_, B>, &LayerCache<B>) + 'o),
}

impl<B: FusionBackend> LayerHooks<B> for PrefillHooks<'_, '_, B> {
    fn place(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        layer_idx: usize,
        cache: &mut KvCache<B>,
        stop: StopCheck<'_>,
    ) -> Result<(), Interrupt> {
        self.stored.place_up_to(ctx, cache, layer_idx, stop)
    }

    fn look(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        view: &LayerView<'_, B>,
        cache: &mut KvCache<B>,
    ) -> Option<Vec<usize>> {
        let step = view.step;
        (self.observe)(view, cache.layer(step.layer_idx));
        let alive = common(&view.rows.positions, &self.schedule.candidate_rows);
        let mut kept = None;
        if let Some(placed) = self.stored.take_placed(step.layer_idx) {
            // Apply the mean change of each chunk's recomputed rows to its other rows.
            if step.corrects {
                correct(ctx, view, cache, &placed, &self.schedule.candidates, &alive);
            }
            // Let the policy choose which rows go on.
            if step.n_kept.is_some() {
                kept = self.compare(view, &placed, &alive);
            }
        }
        self.decided.recomputed = match &kept {
            Some(kept) => common(kept, &self.schedule.candidate_rows),
            None => alive,
        };
        kept
    }
}

impl<B: FusionBackend> PrefillHooks<'_, '_, B> {
    /// The rows alive after fresh and stored KV of the candidates `alive` were compared, ascending.
    fn compare(
        &mut self,
        view: &LayerView<'_, B>,
        placed: &Placed<B>,
        alive: &[usize],
    ) -> Option<Vec<usize>> {
        let selector = self.selector?;
        let layer_idx = view.step.layer_idx;
        let wanted = selector.deviation_at(layer_idx)?;
        let pair = Pair::of(alive, &view.rows.positions, view.fresh, placed);
        let deviation = pair.distance(wanted);
        let chosen = selector.keep(layer_idx, alive, &deviation);
        self.decided.deviation_left = Some(share_left(alive, &deviation, &chosen));
        let mut kept = [&*self.schedule.always, &chosen].concat();
        kept.sort_unstable();
        Some(kept)
    }
}

/// The share of the deviation of `rows` that belongs to rows not in `kept`; both ascending. 0 if
/// nothing deviates. Deviations that are not finite are left out.
fn share_left(rows: &[usize], deviation: &[f32], kept: &[usize]) -> f64 {
    let (mut left, mut total) = (0.0, 0.0);
    for (row, &deviation) in rows.iter().zip(deviation) {
        let deviation = if deviation.is_finite() {
            f64::from(deviation)
        } else {
            0.0
        };
        total += deviation;
        if kept.binary_search(row).is_err() {
            left += deviation;
        }
    }
    if total > 0.0 { left / total } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::share_left;

    #[test]
    fn what_is_left_is_the_part_of_rows_not_kept() {
        assert_eq!(share_left(&[3, 5, 9], &[1.0, 2.0, 5.0], &[9]), 0.375);
        assert_eq!(share_left(&[3, 5], &[f32::NAN, 2.0], &[3]), 1.0);
        assert_eq!(share_left(&[3, 5], &[0.0, 0.0], &[]), 0.0);
    }
}
