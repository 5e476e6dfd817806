//! The deviation of rows: squared L2 distance, summed over heads and dimensions, in f32.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::flex_tensor::{dims, floats, from_floats, whole};

/// Partial sums per row: independent chains that vectorise.
const CHAINS: usize = 16;

/// The reference, in plain tensor code.
pub(super) fn reference<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    let tensor = |x| Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(x)).cast(DType::F32);
    let (a, b) = (tensor(a), tensor(b));
    let [m, heads, head_dim] = a.dims();
    (a - b)
        .square()
        .reshape([m, heads * head_dim])
        .sum_dim(1)
        .reshape([m])
        .into_primitive()
        .tensor()
}

/// The Flex version: one pass.
pub(super) fn on_flex(a: FlexTensor, b: FlexTensor) -> FlexTensor {
    let [m, heads, head_dim] = dims(&a);
    let width = heads * head_dim;
    let (a, b) = (whole(a), whole(b));
    let (a, b) = (floats(&a), floats(&b));
    let rows = a.par_chunks_exact(width).zip(b.par_chunks_exact(width));
    let distances: Vec<f32> = rows.map(|(a, b)| distance(a, b)).collect();
    from_floats(distances, [m], DType::F32)
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; CHAINS];
    for (a, b) in a.chunks(CHAINS).zip(b.chunks(CHAINS)) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += (a - b) * (a - b);
        }
    }
    sums.iter().sum()
}
