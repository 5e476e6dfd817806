//! The network: a decoder-only transformer with grouped heads, as layers that take rows at
//! arbitrary positions. What runs when (prefill, fusion, decode) is decided in `fusion`.

mod attention;
mod layer;
mod linear;
pub(crate) mod load;
mod norm;
mod rope;

pub use layer::DecoderLayer;
pub use linear::Linear;
pub use norm::RmsNorm;
pub use rope::{RopeRows, RopeTable};

use burn::tensor::{DType, Int, Tensor};

use crate::config::ModelConfig;
use crate::kernel::{self, FusionBackend};

/// A loaded model on one device.
pub struct Decoder<B: FusionBackend> {
    config: ModelConfig,
    dtype: DType,
    embed_tokens: B::Weight, // [vocab_size, hidden_size]
    layers: Vec<DecoderLayer<B>>,
    norm: RmsNorm<B>,
    lm_head: Linear<B>,
    device: B::Device,
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

/// A one-dimensional `i32` index tensor.
pub(crate) fn index_tensor<B: FusionBackend>(
    ids: impl IntoIterator<Item = u32>,
    device: &B::Device,
) -> Tensor<B, 1, Int> {
    let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
    let n = ids.len();
    Tensor::from_data(
        burn::tensor::TensorData::new(ids, [n]),
        (device, DType::I32),
    )
}

/// [`index_tensor`] of prompt positions.
pub(crate) fn row_tensor<B: FusionBackend>(
    rows: &[usize],
    device: &B::Device,
) -> Tensor<B, 1, Int> {
    index_tensor(rows.iter().map(|&row| row as u32), device)
}
