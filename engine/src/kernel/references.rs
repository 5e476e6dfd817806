//! The plain-tensor references on `Tensor`, for tests that compare the backends with them.

use std::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use super::rotate::Rotation;
use super::tensors::{float, tensor};
use super::{
    add, attend, glu, masked_softmax, overwrite_rows, place_rows, rms_norm, rotate, row_distance,
};
use crate::config::Activation;
use crate::kv::StoredRows;

/// The plain-tensor reference of [`super::overwrite_rows`].
pub fn overwrite_rows_reference<B: Backend>(
    buffer: Tensor<B, 3>,
    rows: Tensor<B, 1, Int>,
    values: Tensor<B, 3>,
) -> Tensor<B, 3> {
    tensor(overwrite_rows::reference::<B>(
        float(buffer),
        rows.into_primitive(),
        float(values),
    ))
}

/// The plain-tensor reference of [`super::place_block`], of one side.
pub fn place_rows_reference<B: Backend>(
    buffer: Tensor<B, 3>,
    start: usize,
    stored: &StoredRows<'_>,
    rotation: Option<&Rotation<B>>,
) -> Tensor<B, 3> {
    let buffer = float(buffer);
    tensor(place_rows::reference::<B>(buffer, start, stored, rotation))
}

/// The plain-tensor reference of [`super::rotate`].
pub fn rotate_reference<B: Backend>(x: Tensor<B, 3>, rotation: &Rotation<B>) -> Tensor<B, 3> {
    tensor(rotate::reference::<B>(float(x), rotation))
}

/// The plain-tensor reference of [`super::attend_rows`].
pub fn attend_rows_reference<B: Backend>(
    q: Tensor<B, 3>,
    k: Tensor<B, 3>,
    v: Tensor<B, 3>,
    visible: &[Range<usize>],
) -> Tensor<B, 2> {
    tensor(attend::reference::<B>(
        float(q),
        float(k),
        float(v),
        visible,
    ))
}

/// The plain-tensor reference of [`super::masked_softmax`].
pub fn masked_softmax_reference<B: Backend>(
    scores: Tensor<B, 3>,
    visible: &[Range<usize>],
) -> Tensor<B, 3> {
    tensor(masked_softmax::reference::<B>(float(scores), visible))
}

/// The plain-tensor reference of [`super::row_distance`].
pub fn row_distance_reference<B: Backend>(a: Tensor<B, 3>, b: Tensor<B, 3>) -> Tensor<B, 1> {
    tensor(row_distance::reference::<B>(float(a), float(b)))
}

/// The plain-tensor reference of [`super::rms_norm`].
pub fn rms_norm_reference<B: Backend>(
    x: Tensor<B, 2>,
    weight: &Tensor<B, 1>,
    eps: f64,
) -> Tensor<B, 2> {
    tensor(rms_norm::reference::<B>(
        float(x),
        float(weight.clone()),
        eps,
    ))
}

/// The plain-tensor reference of [`super::add`].
pub fn add_reference<B: Backend>(x: Tensor<B, 2>, y: Tensor<B, 2>) -> Tensor<B, 2> {
    tensor(add::reference::<B>(float(x), float(y)))
}

/// The plain-tensor reference of [`super::glu`].
pub fn glu_reference<B: Backend>(
    gate: Tensor<B, 2>,
    up: Tensor<B, 2>,
    activation: Activation,
) -> Tensor<B, 2> {
    tensor(glu::reference::<B>(float(gate), float(up), activation))
}
