//! Rotary position embedding of rows (the rotate-half convention of Hugging Face), computed in f32.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

use super::flex_tensor::{dims, floats, from_floats, into_floats};

/// Tokens a thread takes at a time.
const ROWS_PER_TASK: usize = 128;

/// Cosines and sines of the positions of some rows: `[m, 1, head_dim]` each, f32.
pub struct Rotation<B: Backend> {
    pub cos: FloatTensor<B>,
    pub sin: FloatTensor<B>,
}

/// The reference, in plain tensor code.
pub(super) fn reference<B: Backend>(x: FloatTensor<B>, rotation: &Rotation<B>) -> FloatTensor<B> {
    let tensor = |x| Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(x));
    let x = tensor(x);
    let dtype = x.dtype();
    let [m, heads, head_dim] = x.dims();
    let half = head_dim / 2;
    let x = x.cast(DType::F32);
    let front = x.clone().slice([0..m, 0..heads, 0..half]); // [m, heads, head_dim / 2]
    let back = x.clone().slice([0..m, 0..heads, half..head_dim]);
    let turned = Tensor::cat(vec![back.neg(), front], 2); // [m, heads, head_dim]
    let (cos, sin) = (tensor(rotation.cos.clone()), tensor(rotation.sin.clone()));
    (x * cos + turned * sin)
        .cast(dtype)
        .into_primitive()
        .tensor()
}

/// The Flex version: one pass.
pub(super) fn on_flex(x: FlexTensor, rotation: &Rotation<Flex>) -> FlexTensor {
    let (dtype, shape) = (x.dtype(), dims::<3>(&x));
    let mut out = into_floats(x);
    let (cos, sin) = (floats(&rotation.cos), floats(&rotation.sin));
    let [_, heads, head_dim] = shape;
    let rotate = |(task, rows): (usize, &mut [f32])| {
        let first = task * ROWS_PER_TASK * head_dim;
        let tables = cos[first..]
            .chunks_exact(head_dim)
            .zip(sin[first..].chunks_exact(head_dim));
        for (row, (cos, sin)) in rows.chunks_exact_mut(heads * head_dim).zip(tables) {
            rotate_row(row, cos, sin);
        }
    };
    match shape[0] <= ROWS_PER_TASK {
        true => rotate((0, &mut out)),
        false => out
            .par_chunks_mut(ROWS_PER_TASK * heads * head_dim)
            .enumerate()
            .for_each(rotate),
    }
    from_floats(out, shape, dtype)
}

/// Rotates all heads of one token.
pub(super) fn rotate_row(row: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len() / 2;
    for head in row.chunks_exact_mut(2 * half) {
        let (front, back) = head.split_at_mut(half);
        let pairs = front.iter_mut().zip(back);
        let angles = cos
            .iter()
            .zip(&cos[half..])
            .zip(sin.iter().zip(&sin[half..]));
        for ((front, back), ((cos_front, cos_back), (sin_front, sin_back))) in pairs.zip(angles) {
            let (a, b) = (*front, *back);
            *front = a * cos_front - b * sin_front;
            *back = b * cos_back + a * sin_back;
        }
    }
}
