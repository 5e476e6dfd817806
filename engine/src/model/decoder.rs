//! A loaded model: embedding, layers and output projection.

use burn::tensor::{DType, Tensor};

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

    /// Token embeddings.
    ///
    /// # Shapes
    /// - ids: `n` token ids, all below `vocab_size` (the plan checks that)
    /// - result: `[n, hidden_size]`
    pub fn embed(&self, ids: &[u32]) -> Tensor<B, 2> {
        kernel::embed(&self.embed_tokens, ids)
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
