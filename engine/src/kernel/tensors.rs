//! The operations on `Tensor`, as the model calls them.

use std::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorPrimitive};

use super::backend::FusionBackend;
use super::rotate::Rotation;
use crate::config::Activation;
use crate::kv::StoredBlock;

pub(super) fn float<B: Backend, const D: usize>(x: Tensor<B, D>) -> B::FloatTensorPrimitive {
    x.into_primitive().tensor()
}

pub(super) fn tensor<B: Backend, const D: usize>(x: B::FloatTensorPrimitive) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}

impl<B: Backend> Rotation<B> {
    /// Of tables `[m, 1, head_dim]`.
    pub fn new(cos: &Tensor<B, 3>, sin: &Tensor<B, 3>) -> Self {
        Self {
            cos: float(cos.clone()),
            sin: float(sin.clone()),
        }
    }
}

/// [`FusionBackend::weight`].
pub fn weight<B: FusionBackend>(matrix: Tensor<B, 2>) -> B::Weight {
    B::weight(float(matrix))
}

/// [`FusionBackend::project`].
pub fn project<B: FusionBackend>(x: Tensor<B, 2>, weight: &B::Weight) -> Tensor<B, 2> {
    tensor(B::project(float(x), weight))
}

/// [`FusionBackend::embed`].
pub fn embed<B: FusionBackend>(weight: &B::Weight, ids: &[u32]) -> Tensor<B, 2> {
    tensor(B::embed(weight, ids))
}

/// [`FusionBackend::overwrite_rows`].
pub fn overwrite_rows<B: FusionBackend>(
    buffer: Tensor<B, 3>,
    rows: Tensor<B, 1, Int>,
    values: Tensor<B, 3>,
) -> Tensor<B, 3> {
    debug_assert_eq!(rows.dims()[0], values.dims()[0], "one index per value row");
    tensor(B::overwrite_rows(
        float(buffer),
        rows.into_primitive(),
        float(values),
    ))
}

/// [`FusionBackend::place_block`].
pub fn place_block<B: FusionBackend>(
    buffers: [Tensor<B, 3>; 2],
    start: usize,
    block: &StoredBlock<'_>,
    rotation: &Rotation<B>,
) -> [Tensor<B, 3>; 2] {
    B::place_block(buffers.map(float), start, block, rotation).map(tensor)
}

/// [`FusionBackend::load_block`].
pub fn load_block<B: FusionBackend>(
    block: &StoredBlock<'_>,
    device: &B::Device,
) -> [Tensor<B, 3>; 2] {
    B::load_block(block, device).map(tensor)
}

/// [`FusionBackend::rotate`].
pub fn rotate<B: FusionBackend>(x: Tensor<B, 3>, rotation: &Rotation<B>) -> Tensor<B, 3> {
    tensor(B::rotate(float(x), rotation))
}

/// [`FusionBackend::attend_rows`].
pub fn attend_rows<B: FusionBackend>(
    q: Tensor<B, 3>,
    k: Tensor<B, 3>,
    v: Tensor<B, 3>,
    visible: &[Range<usize>],
) -> Tensor<B, 2> {
    tensor(B::attend_rows(float(q), float(k), float(v), visible))
}

/// [`FusionBackend::masked_softmax`].
pub fn masked_softmax<B: FusionBackend>(
    scores: Tensor<B, 3>,
    visible: &[Range<usize>],
) -> Tensor<B, 3> {
    tensor(B::masked_softmax(float(scores), visible))
}

/// [`FusionBackend::row_distance`].
pub fn row_distance<B: FusionBackend>(a: Tensor<B, 3>, b: Tensor<B, 3>) -> Tensor<B, 1> {
    tensor(B::row_distance(float(a), float(b)))
}

/// [`FusionBackend::rms_norm`] over the last dimension of any shape.
pub fn rms_norm<B: FusionBackend, const D: usize>(
    x: Tensor<B, D>,
    weight: &Tensor<B, 1>,
    eps: f64,
) -> Tensor<B, D> {
    let shape = x.shape();
    let width = weight.dims()[0];
    let x = x.reshape([shape.num_elements() / width, width]); // [m, width]
    tensor::<B, 2>(B::rms_norm(float(x), float(weight.clone()), eps)).reshape(shape)
}

/// [`FusionBackend::add`].
pub fn add<B: FusionBackend>(x: Tensor<B, 2>, y: Tensor<B, 2>) -> Tensor<B, 2> {
    tensor(B::add(float(x), float(y)))
}

/// [`FusionBackend::glu`].
pub fn glu<B: FusionBackend>(
    gate: Tensor<B, 2>,
    up: Tensor<B, 2>,
    activation: Activation,
) -> Tensor<B, 2> {
    tensor(B::glu(float(gate), float(up), activation))
}

/// [`FusionBackend::project_gated`].
pub fn project_gated<B: FusionBackend>(
    x: Tensor<B, 2>,
    weights: [&B::Weight; 2],
    activation: Activation,
) -> Tensor<B, 2> {
    tensor(B::project_gated(float(x), weights, activation))
}

/// [`FusionBackend::project_add`].
pub fn project_add<B: FusionBackend>(
    residual: Tensor<B, 2>,
    x: Tensor<B, 2>,
    weight: &B::Weight,
) -> Tensor<B, 2> {
    tensor(B::project_add(float(residual), float(x), weight))
}

/// [`FusionBackend::project_pair`].
pub fn project_pair<B: FusionBackend>(
    x: Tensor<B, 2>,
    weights: [&B::Weight; 2],
) -> [Tensor<B, 2>; 2] {
    B::project_pair(float(x), weights).map(tensor)
}

/// [`FusionBackend::write_rows`].
pub fn write_rows<B: FusionBackend>(
    buffers: [Tensor<B, 3>; 2],
    rows: Tensor<B, 1, Int>,
    values: [Tensor<B, 3>; 2],
    rotation: &Rotation<B>,
) -> [Tensor<B, 3>; 2] {
    let (buffers, values) = (buffers.map(float), values.map(float));
    B::write_rows(buffers, rows.into_primitive(), values, rotation).map(tensor)
}
