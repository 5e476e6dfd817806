//! The trait that adds KV fusion's operations to a Burn backend, with their references as defaults.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::DType;
use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};

use super::rotate::{self, Rotation};
use super::{add, attend, glu, masked_softmax, overwrite_rows, place_rows, rms_norm, row_distance};
use crate::config::Activation;
use crate::kv::{HostMemory, StoredBlock};

/// A Burn backend with the operations KV fusion needs.
pub trait FusionBackend: Backend {
    /// Whether kernels are compiled, and timed against each other, when they are first run. Work of
    /// every kind is then done once before the first request.
    const COMPILES_WHILE_RUNNING: bool = false;

    /// A weight matrix as this backend multiplies with it.
    type Weight: Clone + Send + Sync + 'static;

    /// Runs work made of many small operations on the thread where they start fastest. On the CPU that is one of
    /// the pool threads that execute the operations. From any other thread, each operation would have to wake
    /// the pool and wait for it, which costs a decode step more than its arithmetic.
    fn close_by<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        work()
    }

    /// The memory that stored KV is read into before it goes to the device; `None` if any memory will do.
    fn host_memory(_device: &Self::Device) -> Option<Arc<dyn HostMemory>> {
        None
    }

    /// Puts a matrix into the form this backend multiplies with.
    ///
    /// # Shapes
    /// - matrix: `[out_features, in_features]`
    fn weight(matrix: FloatTensor<Self>) -> Self::Weight;

    /// `x W^T`, summed in f32 at least.
    ///
    /// # Shapes
    /// - x: `[m, in_features]`
    /// - result: `[m, out_features]`, in the dtype of `x`
    fn project(x: FloatTensor<Self>, weight: &Self::Weight) -> FloatTensor<Self>;

    /// `residual + x W^T`.
    ///
    /// # Shapes
    /// - residual, result: `[m, out_features]`
    /// - x: `[m, in_features]`
    fn project_add(
        residual: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: &Self::Weight,
    ) -> FloatTensor<Self> {
        Self::add(residual, Self::project(x, weight))
    }

    /// `x W^T` of two weights of the same sizes.
    ///
    /// # Shapes
    /// - as for [`FusionBackend::project`]
    fn project_pair(x: FloatTensor<Self>, weights: [&Self::Weight; 2]) -> [FloatTensor<Self>; 2] {
        weights.map(|weight| Self::project(x.clone(), weight))
    }

    /// Rows of a weight matrix, such as token embeddings.
    ///
    /// # Shapes
    /// - ids: `n` rows, all below `out_features`
    /// - result: `[n, in_features]`, in the dtype of the weight
    fn embed(weight: &Self::Weight, ids: &[u32]) -> FloatTensor<Self>;

    /// Replaces rows of `buffer` by `values`, in place if the buffer is not shared.
    ///
    /// In Burn 0.21 float `select_assign` and `scatter` only add, and assigning `scatter_nd`
    /// copies the whole tensor on Flex, so this is an operation of ours.
    ///
    /// # Shapes
    /// - buffer: `[n_rows, heads, head_dim]`
    /// - rows: `[m]`, `i32`, distinct and below `n_rows`
    /// - values: `[m, heads, head_dim]`, in the buffer's dtype
    fn overwrite_rows(
        buffer: FloatTensor<Self>,
        rows: IntTensor<Self>,
        values: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        overwrite_rows::reference::<Self>(buffer, rows, values)
    }

    /// Rotates rows of K to their positions, and replaces rows of both buffers by them and by V.
    ///
    /// # Shapes
    /// - buffers: K and V, `[n_rows, heads, head_dim]` each
    /// - rows: as for [`FusionBackend::overwrite_rows`]
    /// - values: K and V, `[m, heads, head_dim]` each, in the buffers' dtype
    /// - rotation: of `m` positions
    fn write_rows(
        [k_buffer, v_buffer]: [FloatTensor<Self>; 2],
        rows: IntTensor<Self>,
        [k, v]: [FloatTensor<Self>; 2],
        rotation: &Rotation<Self>,
    ) -> [FloatTensor<Self>; 2] {
        let k = Self::rotate(k, rotation);
        [
            Self::overwrite_rows(k_buffer, rows.clone(), k),
            Self::overwrite_rows(v_buffer, rows, v),
        ]
    }

    /// Puts a stored block into the buffers of K and V from row `start` on, in place if they are not shared. Values are
    /// converted to the buffers' dtype, and K is rotated to its positions in f32.
    ///
    /// # Shapes
    /// - buffers: K and V, `[n_rows, heads, head_dim]` each
    /// - block: `[n, heads, head_dim]` each, `start + n <= n_rows`
    /// - rotation: of `n` positions
    fn place_block(
        [k, v]: [FloatTensor<Self>; 2],
        start: usize,
        block: &StoredBlock<'_>,
        rotation: &Rotation<Self>,
    ) -> [FloatTensor<Self>; 2] {
        [
            place_rows::reference::<Self>(k, start, block.k(), Some(rotation)),
            place_rows::reference::<Self>(v, start, block.v(), None),
        ]
    }

    /// K and V of a stored block as tensors of the stored dtype; f32 for int8.
    ///
    /// # Shapes
    /// - result: `[n, heads, head_dim]` each
    fn load_block(block: &StoredBlock<'_>, device: &Self::Device) -> [FloatTensor<Self>; 2] {
        [block.k(), block.v()].map(|side| {
            let tensor = side.to_tensor::<Self>(device);
            tensor.into_primitive().tensor()
        })
    }

    /// Rotates rows to their positions (rotate-half convention of Hugging Face), in f32.
    ///
    /// # Shapes
    /// - x: `[m, heads, head_dim]`, result: the same, in the dtype of `x`
    /// - rotation: of `m` positions
    fn rotate(x: FloatTensor<Self>, rotation: &Rotation<Self>) -> FloatTensor<Self> {
        rotate::reference::<Self>(x, rotation)
    }

    /// Attention of rows, each over one contiguous range of the KV buffer's rows: causal, and inside
    /// a sliding window if there is one. Query head `h` reads KV head `h / (heads / kv_heads)`.
    ///
    /// # Shapes
    /// - q: `[m, heads, head_dim]`, rotated
    /// - k (rotated), v: `[n, kv_heads, head_dim]`
    /// - visible: `m` ranges below `n`, none empty, starts and ends ascending
    /// - result: `[m, heads * head_dim]`, in the dtype of `q`, computed in f32
    fn attend_rows(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        visible: &[Range<usize>],
    ) -> FloatTensor<Self> {
        attend::reference::<Self>(q, k, v, visible)
    }

    /// Softmax over the keys each row sees; 0 for the others.
    ///
    /// # Shapes
    /// - scores: `[heads, group * m, n]`, row `i` belonging to `visible[i % m]`
    /// - visible: `m` ranges of keys below `n`, none empty
    /// - result: as `scores`, in its dtype, computed in f32
    fn masked_softmax(scores: FloatTensor<Self>, visible: &[Range<usize>]) -> FloatTensor<Self> {
        masked_softmax::reference::<Self>(scores, visible)
    }

    /// Squared L2 distance of rows, summed over heads and dimensions: the deviation of stored KV.
    ///
    /// # Shapes
    /// - a, b: `[m, heads, head_dim]`
    /// - result: `[m]`, f32
    fn row_distance(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        row_distance::reference::<Self>(a, b)
    }

    /// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension, in f32.
    ///
    /// # Shapes
    /// - x: `[m, width]`, result: the same, in the dtype of `x`
    /// - weight: `[width]`, f32
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        rms_norm::reference::<Self>(x, weight, eps)
    }

    /// `x + y`, rounded once; on the CPU in place if `x` is not shared.
    ///
    /// # Shapes
    /// - x, y, result: `[m, width]`
    fn add(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        add::reference::<Self>(x, y)
    }

    /// The gated linear unit `activation(gate) * up`.
    ///
    /// # Shapes
    /// - gate, up, result: `[m, intermediate_size]`
    fn glu(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        glu::reference::<Self>(gate, up, activation)
    }

    /// [`FusionBackend::glu`] of two products.
    ///
    /// # Shapes
    /// - x: `[m, hidden_size]`
    /// - weights: gate and up, `[intermediate_size, hidden_size]` each
    /// - result: `[m, intermediate_size]`, in the dtype of `x`
    fn project_gated(
        x: FloatTensor<Self>,
        weights: [&Self::Weight; 2],
        activation: Activation,
    ) -> FloatTensor<Self> {
        let [gate, up] = Self::project_pair(x, weights);
        Self::glu(gate, up, activation)
    }

    /// On a device that compiles at run time, compiles the kernels whose choice depends on the number of rows
    /// and keys, because a warm-up covers only some of these numbers.
    fn compile_by_size(
        _device: &Self::Device,
        _dtype: DType,
        _head_dim: usize,
        _activation: Activation,
    ) {
    }
}
