//! The question's attention over stored KV, read before rows are chosen: the policies `query`
//! and `anchors` rank by it.

use super::context::FusionContext;
use super::executor::{LayerHooks, LayerView};
use super::interrupt::{Interrupt, StopCheck};
use super::selection::Pooling;
use super::stored::Stored;
use crate::kernel::FusionBackend;
use crate::kv::KvCache;
use crate::model::{SequenceRows, row_tensor};

/// Reads, at the probed layers, the attention of the question's tokens to each candidate.
pub(super) struct QuestionAttention<'a, B: FusionBackend> {
    pub pooling: Pooling,
    /// How many of the question's tokens are read: the last rows of the prompt.
    pub n_asking: usize,
    /// Rows whose attention is wanted, ascending.
    pub candidates: &'a [usize],
    pub stored: &'a mut Stored<B>,
    /// Per probed layer so far, the pooled attention to each candidate.
    pub observed: &'a mut Vec<Vec<f32>>,
}

impl<B: FusionBackend> LayerHooks<B> for QuestionAttention<'_, B> {
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
        _ctx: &mut FusionContext<'_, B>,
        view: &LayerView<'_, B>,
        cache: &mut KvCache<B>,
    ) -> Option<Vec<usize>> {
        if view.step.reads {
            let attention = self.attention(view, cache);
            self.observed.push(attention);
        }
        None
    }
}

impl<B: FusionBackend> QuestionAttention<'_, B> {
    /// The question's attention at one layer, pooled over its tokens, per candidate.
    fn attention(&self, view: &LayerView<'_, B>, cache: &KvCache<B>) -> Vec<f32> {
        let device = view.normed.device();
        let positions = &view.rows.positions;
        // The question's rows are the last ones, and the last of them is the prompt's end.
        let n = positions.len();
        let n_tokens = positions.last().map_or(0, |last| last + 1);
        let asking: Vec<usize> = (n - self.n_asking..n).collect();
        let rows = SequenceRows {
            positions: &positions[n - self.n_asking..],
            rope: &view.rows.rope.select(&asking, &device),
            cache: cache.layer(view.step.layer_idx),
        };
        let normed = view.normed.clone().select(0, row_tensor(&asking, &device));
        let weights = view.layer.attention_weights(normed, rows, n_tokens); // [asking, n_tokens]
        let candidates = row_tensor::<B>(self.candidates, &device);
        let weights = weights.select(1, candidates); // [asking, candidates]
        let pooled = match self.pooling {
            Pooling::Max => weights.max_dim(0),
            Pooling::Mean | Pooling::Final => weights.mean_dim(0),
        };
        pooled.into_data().iter::<f32>().collect()
    }
}
