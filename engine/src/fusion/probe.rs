//! The question's attention over stored KV, read before rows are chosen: what the policies `query`
//! and `anchors` rank by.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::plan::{ChunkState, FusionPlan};
use super::policy::ProbeKeys;
use super::prefill::{FusionContext, Interrupt};
use super::recompute::{Run, embed, forward_tiled};
use super::selection::Pooling;
use super::stored::Rows;
use crate::kernel::FusionBackend;
use crate::model::row_tensor;

/// A question probe: see [`super::policy::Probe::Question`].
pub(super) struct QuestionProbe<'a> {
    /// Ascending, not empty.
    pub layers: &'a [usize],
    pub keys: ProbeKeys,
    pub pooling: Pooling,
    /// Tokens of the question.
    pub n_question: usize,
}

impl<B: FusionBackend> Run<B> {
    /// Runs question and missed chunks over stored KV; per probed layer, the pooled attention of
    /// the question's tokens to each candidate: `[layers][candidates]`.
    pub(super) fn question_attention(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        plan: &FusionPlan,
        probe: &QuestionProbe<'_>,
    ) -> Result<Vec<Vec<f32>>, Interrupt> {
        let rows = Rows::new(ctx, self.always.iter().copied().collect());
        let held = self.held_rows(plan, probe.keys);
        let held_index = row_tensor::<B>(&held, ctx.decoder.device());
        let mut hidden = embed(ctx, plan, &rows.positions); // [always, hidden_size]
        let mut observed = Vec::new();
        let deepest = probe.layers.last().copied().unwrap_or_default();
        for layer_idx in 0..=deepest {
            ctx.check_stop()?;
            self.stored.look(ctx, &mut self.cache, layer_idx)?;
            let layer = ctx.decoder.layer(layer_idx);
            let normed = layer.pre_attention(hidden.clone());
            let (k, v) = layer.keys_values(normed.clone()); // [always, kv_heads, head_dim]
            let cache = self.cache.layer_mut(layer_idx);
            cache.write_fresh(&rows.index, k, v, &rows.rope.rotation());
            if probe.layers.contains(&layer_idx) {
                observed.push(self.read_attention(ctx, layer_idx, &rows, &normed, probe));
            }
            if layer_idx < deepest {
                self.rows_forwarded += rows.positions.len();
                let cache = self.cache.layer(layer_idx);
                hidden = match probe.keys {
                    ProbeKeys::All => forward_tiled(ctx, layer, hidden, normed, &rows, cache),
                    ProbeKeys::Anchors => {
                        let packed = cache.packed(&held, &held_index);
                        forward_tiled(ctx, layer, hidden, normed, &rows, &packed)
                    }
                };
            }
        }
        Ok(observed)
    }

    /// The rows the question sees on its way: all, or the prefix, anchors in place of each stored
    /// chunk, missed chunks and the question itself.
    fn held_rows(&self, plan: &FusionPlan, keys: ProbeKeys) -> Arc<[usize]> {
        if keys == ProbeKeys::All {
            return (0..plan.n_tokens()).collect();
        }
        let states = plan.chunk_states();
        let is_hit = |&i: &usize| matches!(states[i], ChunkState::Hit { .. });
        let anchors = (0..states.len())
            .filter(is_hit)
            .flat_map(|i| plan.anchor_rows(i));
        let mut held: Vec<usize> = (0..plan.segments().prefix.len()).chain(anchors).collect();
        held.extend(&self.always);
        held.sort_unstable();
        held.dedup();
        held.into()
    }

    /// The question's attention at one layer, pooled over its tokens, per candidate.
    fn read_attention(
        &self,
        ctx: &FusionContext<'_, B>,
        layer_idx: usize,
        rows: &Rows<B>,
        normed: &Tensor<B, 2>,
        probe: &QuestionProbe<'_>,
    ) -> Vec<f32> {
        let device = normed.device();
        // The question's rows are the last ones, and the last of them is the prompt's end.
        let n = rows.positions.len();
        let n_tokens = rows.positions.last().map_or(0, |last| last + 1);
        let n_asking = match probe.pooling {
            Pooling::Final => 1,
            Pooling::Mean | Pooling::Max => probe.n_question,
        };
        let asking: Vec<usize> = (n - n_asking..n).collect();
        let weights = ctx.decoder.layer(layer_idx).attention_weights(
            normed.clone().select(0, row_tensor(&asking, &device)),
            &rows.positions[n - n_asking..],
            &rows.rope.select(&asking, &device),
            n_tokens,
            self.cache.layer(layer_idx),
        ); // [asking, n_tokens]
        let candidates = row_tensor::<B>(&self.candidates, &device);
        let weights = weights.select(1, candidates); // [asking, candidates]
        let pooled = match probe.pooling {
            Pooling::Max => weights.max_dim(0),
            Pooling::Mean | Pooling::Final => weights.mean_dim(0),
        };
        pooled.into_data().iter::<f32>().collect()
    }
}
