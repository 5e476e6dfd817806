//! The custom tensor operations: one trait over Burn's `Backend`, one file per operation.
//!
//! Every operation has a body in plain tensor code, which is its reference; a backend overrides it
//! where a profile or a missing Burn operation asks for that. Only this folder names backends.

#[cfg(any(feature = "cuda", feature = "vulkan"))]
mod cube;
mod flex;
mod masked_softmax;
mod overwrite_rows;

use std::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor, TensorPrimitive};

/// A Burn backend with the operations KV fusion needs.
pub trait FusionBackend: Backend {
    /// Replaces rows of `buffer` by `values`, in place where the buffer is not shared.
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

    /// Softmax over the keys each row sees; 0 for the others.
    ///
    /// A row sees one contiguous range of keys: causal, and inside a sliding window where there is
    /// one. Masking and normalising in one pass spares a `[heads, m, n]` mask.
    ///
    /// # Shapes
    /// - scores: `[heads, group * m, n]`, row `i` belonging to `visible[i % m]`
    /// - visible: `m` ranges of keys below `n`, none empty
    /// - result: as `scores`, in its dtype, computed in f32
    fn masked_softmax(scores: FloatTensor<Self>, visible: &[Range<usize>]) -> FloatTensor<Self> {
        masked_softmax::reference::<Self>(scores, visible)
    }
}

/// Tensor-level form of [`FusionBackend::masked_softmax`].
pub fn masked_softmax<B: FusionBackend>(
    scores: Tensor<B, 3>,
    visible: &[Range<usize>],
) -> Tensor<B, 3> {
    let out = B::masked_softmax(scores.into_primitive().tensor(), visible);
    Tensor::from_primitive(TensorPrimitive::Float(out))
}

/// The plain-tensor reference of [`masked_softmax`], for tests of the other implementations.
pub fn masked_softmax_reference<B: Backend>(
    scores: Tensor<B, 3>,
    visible: &[Range<usize>],
) -> Tensor<B, 3> {
    let out = masked_softmax::reference::<B>(scores.into_primitive().tensor(), visible);
    Tensor::from_primitive(TensorPrimitive::Float(out))
}

/// Tensor-level form of [`FusionBackend::overwrite_rows`].
pub fn overwrite_rows<B: FusionBackend>(
    buffer: Tensor<B, 3>,
    rows: Tensor<B, 1, Int>,
    values: Tensor<B, 3>,
) -> Tensor<B, 3> {
    debug_assert_eq!(rows.dims()[0], values.dims()[0], "one index per value row");
    let out = B::overwrite_rows(
        buffer.into_primitive().tensor(),
        rows.into_primitive(),
        values.into_primitive().tensor(),
    );
    Tensor::from_primitive(TensorPrimitive::Float(out))
}

/// The plain-tensor reference of [`overwrite_rows`], for tests of the other implementations.
pub fn overwrite_rows_reference<B: Backend>(
    buffer: Tensor<B, 3>,
    rows: Tensor<B, 1, Int>,
    values: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let out = overwrite_rows::reference::<B>(
        buffer.into_primitive().tensor(),
        rows.into_primitive(),
        values.into_primitive().tensor(),
    );
    Tensor::from_primitive(TensorPrimitive::Float(out))
}
