//! How far stored KV is from fresh KV: by row, at one layer for `hkvd`, and at every layer against
//! a real full prefill for `oracle` and for evaluation.

use burn::tensor::Tensor;

use super::plan::FusionPlan;
use super::prefill::{FusionContext, Interrupt};
use super::recompute::{Run, forward_tiled};
use super::rows::indices;
use super::selection::Deviation;
use super::stored::{Placed, Rows};
use crate::kernel::{FusionBackend, row_distance};
use crate::kv::KvCache;
use crate::model::row_tensor;

/// Fresh K (before RoPE) and V of the rows `[m, kv_heads, head_dim]` computed at a layer.
pub(super) type Fresh<B> = (Tensor<B, 3>, Tensor<B, 3>);

/// Fresh and stored KV of the same rows.
pub(super) struct Pair<B: FusionBackend> {
    pub fresh: Fresh<B>,
    pub stored: Fresh<B>,
}

impl<B: FusionBackend> Pair<B> {
    /// The KV of `rows`, which are among the rows computed and among those placed; all ascending.
    pub(super) fn of(
        rows: &[usize],
        computed: &[usize],
        fresh: &Fresh<B>,
        placed: &Placed<B>,
    ) -> Self {
        let device = placed.k.device();
        let select = |(k, v): (&Tensor<B, 3>, &Tensor<B, 3>), among: &[usize]| {
            let index = row_tensor::<B>(&indices(rows, among), &device);
            (
                k.clone().select(0, index.clone()),
                v.clone().select(0, index),
            )
        };
        Self {
            fresh: select((&fresh.0, &fresh.1), computed),
            stored: select((&placed.k, &placed.v), &placed.rows),
        }
    }

    /// Squared L2 distance per row, summed over heads and dimensions, in f32.
    pub(super) fn distance(self, which: Deviation) -> Vec<f32> {
        let (k, v) = self.sides(row_distance);
        floats(match which {
            Deviation::K => k,
            Deviation::V => v,
            Deviation::Kv => k + v,
        })
    }

    /// [`Pair::distance`] with K and V each divided by the mean squared norm of the fresh rows, so
    /// that layers, and K and V, can be compared: 1 is a row as far off as rows are long.
    pub(super) fn relative_distance(self, which: Deviation) -> Vec<f32> {
        let (k, v) = self.sides(|fresh, stored| {
            let norm = row_distance(fresh.clone(), fresh.zeros_like()).mean();
            row_distance(fresh, stored) / norm.clamp_min(f32::MIN_POSITIVE)
        });
        floats(match which {
            Deviation::K => k,
            Deviation::V => v,
            Deviation::Kv => k + v,
        })
    }

    fn sides(
        self,
        distance: impl Fn(Tensor<B, 3>, Tensor<B, 3>) -> Tensor<B, 1>,
    ) -> (Tensor<B, 1>, Tensor<B, 1>) {
        let k = distance(self.fresh.0, self.stored.0);
        (k, distance(self.fresh.1, self.stored.1))
    }
}

fn floats<B: FusionBackend>(values: Tensor<B, 1>) -> Vec<f32> {
    values.into_data().iter::<f32>().collect()
}

impl<B: FusionBackend> Run<B> {
    /// Relative deviation of each candidate's stored KV from that of a real full prefill, computed
    /// here in a cache of its own: `[n_layers][candidates]`.
    pub(super) fn true_deviation(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        plan: &FusionPlan,
        which: Deviation,
    ) -> Result<Vec<Vec<f32>>, Interrupt> {
        let decoder = ctx.decoder;
        let (dtype, device) = (decoder.dtype(), decoder.device());
        let mut truth = KvCache::new(decoder.config(), plan.n_tokens(), dtype, device);
        let all = Rows::new(ctx, (0..plan.n_tokens()).collect());
        let mut hidden = decoder.embed(&plan.segments().token_ids()); // [n, hidden_size]
        let mut layers = Vec::new();
        for layer_idx in 0..decoder.config().num_hidden_layers {
            ctx.check_stop()?;
            let layer = decoder.layer(layer_idx);
            let normed = layer.pre_attention(hidden.clone());
            let fresh = layer.keys_values(normed.clone()); // [n, kv_heads, head_dim]
            let (k, v) = fresh.clone();
            let cache = truth.layer_mut(layer_idx);
            cache.write_fresh(&all.index, k, v, &all.rope.rotation());
            let placed = self.stored.look(ctx, &mut self.cache, layer_idx)?;
            let placed = placed.filter(|_| !self.candidates.is_empty());
            layers.push(placed.map_or_else(Vec::new, |placed| {
                let pair = Pair::of(&self.candidates, &all.positions, &fresh, placed);
                pair.relative_distance(which)
            }));
            hidden = forward_tiled(ctx, layer, hidden, normed, &all, truth.layer(layer_idx));
            self.rows_forwarded += plan.n_tokens();
        }
        Ok(layers)
    }
}
