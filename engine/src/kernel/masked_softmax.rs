//! Softmax over the keys each row sees: the reference and the Flex version (in place).

use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Element, Tensor, TensorData, TensorMetadata, TensorPrimitive};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::flex_tensor::{whole, with_stored_type};
use super::simd::{Isa, Stored};
use super::softmax::normalise;

/// The reference, in plain tensor code: an additive mask of 0 and `-inf`, then softmax.
pub(super) fn reference<B: Backend>(
    scores: FloatTensor<B>,
    visible: &[Range<usize>],
) -> FloatTensor<B> {
    let scores = Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(scores));
    let (dtype, device) = (scores.dtype(), scores.device());
    let [heads, rows, n] = scores.dims();
    let m = visible.len();
    let mut bias = vec![f32::NEG_INFINITY; m * n];
    for (row, keys) in bias.chunks_exact_mut(n).zip(visible) {
        row[keys.clone()].fill(0.0);
    }
    let bias = TensorData::new(bias, [1, 1, m, n]);
    let bias = Tensor::<B, 4>::from_data(bias, (&device, DType::F32));
    let scores = scores.cast(DType::F32).reshape([heads, rows / m, m, n]);
    let weights = softmax(scores + bias, 3).cast(dtype); // [heads, group, m, n]
    weights.reshape([heads, rows, n]).into_primitive().tensor()
}

/// The Flex version: one pass per row, rows in parallel, in place unless the scores are shared.
pub(super) fn on_flex(scores: FlexTensor, visible: &[Range<usize>]) -> FlexTensor {
    let mut scores = whole(scores);
    with_stored_type!(scores.dtype(), E => normalise_rows::<E>(&mut scores, visible));
    scores
}

fn normalise_rows<E: Element + Stored>(scores: &mut FlexTensor, visible: &[Range<usize>]) {
    let (n, isa) = (scores.shape()[2], Isa::in_use());
    let rows: &mut [E] = scores.storage_mut();
    rows.par_chunks_exact_mut(n)
        .enumerate()
        .for_each_init(Vec::new, |buffer, (i, row)| {
            let keys = visible[i % visible.len()].clone();
            buffer.clear();
            buffer.extend(row[keys.clone()].iter().map(|&x| x.widen()));
            normalise(buffer, isa);
            row[..keys.start].fill(E::narrow(0.0));
            row[keys.end..].fill(E::narrow(0.0));
            E::narrow_row(buffer, &mut row[keys]);
        });
}
