//! A loaded model: embedding, layers and output projection.

use burn::tensor::{DType, Tensor};
use half::{bf16, f16};

use super::layer::DecoderLayer;
use super::linear::Linear;
use super::norm::RmsNorm;
use crate::config::ModelConfig;
use crate::kernel::{self, FusionBackend};

/// A loaded model on one device.
pub struct Decoder<B: FusionBackend> {
    pub(super) config: ModelConfig,
    pub(super) dtype: DType,
    pub(super) embed_tokens: B::Weight, // [vocab_size, hidden_size]
    pub(super) layers: Vec<DecoderLayer<B>>,
    pub(super) norm: RmsNorm<B>,
    pub(super) lm_head: Linear<B>,
    pub(super) device: B::Device,
}

impl<B: FusionBackend> Decoder<B> {
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub fn device(&self) -> &B::Device {
        &self.device
    }

    /// The dtype of weights, activations and device KV.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn layer(&self, layer_idx: usize) -> &DecoderLayer<B> {
        &self.layers[layer_idx]
    }

    /// Token embeddings, scaled if the model scales them.
    ///
    /// # Shapes
    /// - ids: `n` token ids, all below `vocab_size` (the plan checks that)
    /// - result: `[n, hidden_size]`
    pub fn embed(&self, ids: &[u32]) -> Tensor<B, 2> {
        let embeddings = kernel::embed(&self.embed_tokens, ids);
        match self.config.embed_scale {
            Some(scale) => embeddings.mul_scalar(rounded(scale, self.dtype)),
            None => embeddings,
        }
    }

    /// Final norm and output projection, in f32.
    ///
    /// # Shapes
    /// - hidden: `[m, hidden_size]`
    /// - result: `[m, vocab_size]`
    pub fn logits(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        let normed = self.norm.forward(hidden); // [m, hidden_size]
        self.lm_head.forward(normed).cast(DType::F32) // [m, vocab_size]
    }
}

/// The nearest number that `dtype` has.
fn rounded(x: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F16 => f16::from_f64(x).to_f64(),
        DType::BF16 => bf16::from_f64(x).to_f64(),
        _ => f64::from(x as f32),
    }
}
