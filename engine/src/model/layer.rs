//! One decoder layer, split into the steps that fusion needs: K/V of rows, Q of rows, attention, the rest.

use std::ops::Range;

use burn::tensor::Tensor;

use super::attention;
use super::linear::Linear;
use super::norm::RmsNorm;
use super::rope::RopeRows;
use crate::config::LayerSpec;
use crate::kernel::{
    FusionBackend, Rotation, add, attend_rows, glu, project_gated, project_pair, rotate,
};
use crate::kv::LayerCache;

/// Rows of one sequence, with what they attend to.
pub struct SequenceRows<'a, B: FusionBackend> {
    /// Prompt positions, ascending.
    pub positions: &'a [usize],
    /// The rotation of each of them.
    pub rope: &'a RopeRows<B>,
    /// The sequence's cache at this layer.
    pub cache: &'a LayerCache<B>,
}

/// One transformer block: attention and a gated MLP, with norms, as its [`LayerSpec`] describes.
pub struct DecoderLayer<B: FusionBackend> {
    pub(super) spec: LayerSpec,
    pub(super) attention_norm: RmsNorm<B>,
    pub(super) attention_output_norm: Option<RmsNorm<B>>,
    pub(super) q_proj: Linear<B>,
    pub(super) k_proj: Linear<B>,
    pub(super) v_proj: Linear<B>,
    pub(super) o_proj: Linear<B>,
    pub(super) q_norm: Option<RmsNorm<B>>, // [head_dim]
    pub(super) k_norm: Option<RmsNorm<B>>,
    pub(super) mlp_norm: RmsNorm<B>,
    pub(super) mlp_output_norm: Option<RmsNorm<B>>,
    pub(super) gate_proj: Linear<B>,
    pub(super) up_proj: Linear<B>,
    pub(super) down_proj: Linear<B>,
    pub(super) head_dim: usize,
}

impl<B: FusionBackend> DecoderLayer<B> {
    /// The rotation of rows in this layer.
    pub(crate) fn rotation(&self, rows: &RopeRows<B>) -> Rotation<B> {
        rows.rotation(&self.spec)
    }

    /// The norm before attention. Shapes: `[m, hidden_size]` to the same.
    pub fn pre_attention(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        self.attention_norm.forward(hidden)
    }

    /// K after bias and k_norm but before RoPE, and V: what is stored for a chunk.
    ///
    /// # Shapes
    /// - normed: `[m, hidden_size]`
    /// - result: two of `[m, kv_heads, head_dim]`
    pub fn keys_values(&self, normed: Tensor<B, 2>) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let weights = (self.k_proj.weight_alone(), self.v_proj.weight_alone());
        let [k, v] = match weights {
            (Some(k), Some(v)) => project_pair(normed, [k, v]),
            _ => [&self.k_proj, &self.v_proj].map(|proj| proj.forward(normed.clone())),
        };
        let [k, v] = [k, v].map(|x| self.heads(x)); // [m, kv_heads, head_dim]
        let k = match &self.k_norm {
            Some(norm) => norm.forward(k),
            None => k,
        };
        (k, v)
    }

    /// Attention and MLP of rows whose K/V are in their sequences' caches already.
    ///
    /// # Shapes
    /// - hidden, normed: `[m, hidden_size]`, the layer's input before and after its norm: the rows of one sequence
    ///   after those of the other
    /// - result: `[m, hidden_size]`
    pub fn forward_rows(
        &self,
        hidden: Tensor<B, 2>,
        normed: Tensor<B, 2>,
        sequences: &[SequenceRows<'_, B>],
    ) -> Tensor<B, 2> {
        let attended = self.attend(normed, sequences); // [m, heads * head_dim]
        let hidden = add_output(hidden, attended, &self.o_proj, &self.attention_output_norm); // [m, hidden_size]
        let gated = self.gated(self.mlp_norm.forward(hidden.clone())); // [m, intermediate_size]
        add_output(hidden, gated, &self.down_proj, &self.mlp_output_norm) // [m, hidden_size]
    }

    /// The MLP before its last projection: `[m, hidden_size]` to `[m, intermediate_size]`.
    fn gated(&self, normed: Tensor<B, 2>) -> Tensor<B, 2> {
        let activation = self.spec.activation;
        let weights = (self.gate_proj.weight_alone(), self.up_proj.weight_alone());
        if let (Some(gate), Some(up)) = weights {
            return project_gated(normed, [gate, up], activation);
        }
        let gate = self.gate_proj.forward(normed.clone()); // [m, intermediate_size]
        glu(gate, self.up_proj.forward(normed), activation)
    }

    /// The output of attention before its projection.
    ///
    /// # Shapes
    /// - normed: as for [`DecoderLayer::forward_rows`]
    /// - result: `[m, heads * head_dim]`
    pub fn attend(&self, normed: Tensor<B, 2>, sequences: &[SequenceRows<'_, B>]) -> Tensor<B, 2> {
        let q = self.queries(normed); // [m, heads, head_dim]
        if let [rows] = sequences {
            return self.attend_within(q, rows);
        }
        let mut first = 0;
        let parts = sequences.iter().map(|rows| {
            let n = rows.positions.len();
            first += n;
            self.attend_within(q.clone().narrow(0, first - n, n), rows)
        });
        Tensor::cat(parts.collect(), 0)
    }

    /// Attention of the rows of one sequence: `[m, heads, head_dim]` to `[m, heads * head_dim]`.
    fn attend_within(&self, q: Tensor<B, 3>, rows: &SequenceRows<'_, B>) -> Tensor<B, 2> {
        let (k, v) = rows.cache.tensors();
        let q = rotate(q, &self.rotation(rows.rope));
        attend_rows(q, k, v, &self.visible(rows))
    }

    /// The attention each row pays to the cache rows before `end`, averaged over heads, in f32:
    /// what selection policies read.
    ///
    /// # Shapes
    /// - normed: `[m, hidden_size]`, of `rows`, whose positions are all below `end`
    /// - result: `[m, end]`
    pub fn attention_weights(
        &self,
        normed: Tensor<B, 2>,
        rows: SequenceRows<'_, B>,
        end: usize,
    ) -> Tensor<B, 2> {
        let q = rotate(self.queries(normed), &self.rotation(rows.rope));
        attention::attention_weights(q, &self.visible(&rows), end, rows.cache)
    }

    /// Queries before RoPE: `[m, heads, head_dim]`.
    fn queries(&self, normed: Tensor<B, 2>) -> Tensor<B, 3> {
        let q = self.heads(self.q_proj.forward(normed)); // [m, heads, head_dim]
        match &self.q_norm {
            Some(norm) => norm.forward(q),
            None => q,
        }
    }

    fn visible(&self, rows: &SequenceRows<'_, B>) -> Vec<Range<usize>> {
        let of_row = |&position: &usize| rows.cache.visible(position, self.spec.sliding_window);
        rows.positions.iter().map(of_row).collect()
    }

    fn heads(&self, x: Tensor<B, 2>) -> Tensor<B, 3> {
        let [m, width] = x.dims();
        x.reshape([m, width / self.head_dim, self.head_dim])
    }
}

/// The projection of what attention or the MLP computed, after its norm if it has one, added to the residual stream.
///
/// # Shapes
/// - residual, result: `[m, hidden_size]`
/// - x: `[m, in_features]` of `proj`
fn add_output<B: FusionBackend>(
    residual: Tensor<B, 2>,
    x: Tensor<B, 2>,
    proj: &Linear<B>,
    norm: &Option<RmsNorm<B>>,
) -> Tensor<B, 2> {
    match norm {
        Some(norm) => add(residual, norm.forward(proj.forward(x))),
        None => proj.add_to(residual, x),
    }
}
