//! Methods for tests only, under the feature `testing`.

use burn::tensor::Tensor;

use super::Engine;
use crate::error::EngineError;
use crate::fusion::{Forward, FuseReport, FusionPlan, LayerView, shared};
use crate::kernel::FusionBackend;
use crate::kv::{LayerCache, LayerSource};

/// Logits at every position and K (before RoPE) and V of every layer of one full prefill.
#[derive(Debug, Clone)]
pub struct ForwardTrace {
    /// `[n_tokens, vocab_size]`
    pub logits: Vec<Vec<f32>>,
    /// Per layer, K before RoPE and V, `[n_tokens, kv_heads, head_dim]` row-major.
    pub layers: Vec<(Vec<f32>, Vec<f32>)>,
}

impl<B: FusionBackend> Engine<B> {
    /// A plain forward pass over `ids`, for parity tests.
    ///
    /// # Errors
    /// No ids, ids outside the vocabulary, or more than the model takes.
    pub fn forward(&mut self, ids: &[u32]) -> Result<ForwardTrace, EngineError> {
        let mut layers = Vec::new();
        let mut observe = |view: &LayerView<'_, B>, _: &LayerCache<B>| {
            let floats = |x: &Tensor<B, 3>| x.to_data().iter::<f32>().collect();
            let (k, v) = view.fresh;
            layers.push((floats(k), floats(v)));
        };
        let hidden = self.run_alone(&[], ids, Forward::Alive, &mut observe)?;
        let hidden = hidden.ok_or(EngineError::Cancelled)?;
        let logits = self.decoder.logits(hidden).into_data();
        let flat: Vec<f32> = logits.iter::<f32>().collect();
        let vocab = self.info.config.vocab_size;
        Ok(ForwardTrace {
            logits: flat.chunks_exact(vocab).map(<[f32]>::to_vec).collect(),
            layers,
        })
    }

    /// Logits of a plan's last position, with the report of its prefill.
    ///
    /// # Errors
    /// A device failure. Bad KV is computed instead and causes no error.
    pub fn plan_logits(
        &mut self,
        plan: FusionPlan,
        sources: Vec<Option<Box<dyn LayerSource>>>,
    ) -> Result<(Vec<f32>, FuseReport), EngineError> {
        let capacity = plan.n_tokens();
        let loader = self.open(&plan, shared(sources));
        let sequence = self.fuse(plan, loader, capacity, &|| None)?;
        Ok(self.end(sequence))
    }
}
