//! RMS normalisation over the last dimension: `y = x / sqrt(mean(x^2) + eps) * weight`, computed in f32.
#![expect(unsafe_code, reason = "vectors over raw pointers")]

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::flex_tensor::{dims, floats, from_floats, into_floats, whole};
use super::simd::{Isa, Kernel, Lanes};

/// Floats a thread takes at a time.
const TASK_FLOATS: usize = 32 * 1024;

/// The reference, in plain tensor code.
pub(super) fn reference<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    eps: f64,
) -> FloatTensor<B> {
    let x = Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(x));
    let weight = Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(weight));
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let mean_square = x.clone().square().mean_dim(1); // [m, 1]
    let scale = mean_square.add_scalar(eps).sqrt().recip(); // [m, 1]
    let y = (x * scale * weight.unsqueeze()).cast(dtype);
    y.into_primitive().tensor()
}

/// The Flex version: one pass per row.
pub(super) fn on_flex(x: FlexTensor, weight: FlexTensor, eps: f64) -> FlexTensor {
    let (dtype, shape) = (x.dtype(), dims::<2>(&x));
    let mut out = into_floats(x);
    let weight = whole(weight);
    let (weight, isa) = (floats(&weight), Isa::in_use());
    let rows = (TASK_FLOATS / shape[1]).max(1);
    let normalise = |rows: &mut [f32]| {
        let weight = &weight;
        isa.run(Normalise {
            rows,
            weight,
            eps: eps as f32,
        });
    };
    match shape[0] <= rows {
        true => normalise(&mut out),
        false => out.par_chunks_mut(rows * shape[1]).for_each(normalise),
    }
    from_floats(out, shape, dtype)
}

struct Normalise<'a> {
    rows: &'a mut [f32],
    weight: &'a [f32],
    eps: f32,
}

impl Kernel for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let width = self.weight.len();
        let whole = width / L::N * L::N;
        for row in self.rows.chunks_exact_mut(width) {
            // SAFETY: vectors inside the row and the weight, which are as long.
            unsafe {
                let mut squares = L::splat(0.0);
                for lanes in row.chunks_exact(L::N) {
                    let x = L::load(lanes.as_ptr());
                    squares = L::fma(x, x, squares);
                }
                let rest: f32 = row[whole..].iter().map(|x| x * x).sum();
                let mean = (L::sum(squares) + rest) / width as f32;
                let scale = 1.0 / (mean + self.eps).sqrt();
                for (lanes, weight) in row
                    .chunks_exact_mut(L::N)
                    .zip(self.weight.chunks_exact(L::N))
                {
                    let y = L::mul(L::load(lanes.as_ptr()), L::splat(scale));
                    L::store(lanes.as_mut_ptr(), L::mul(y, L::load(weight.as_ptr())));
                }
                for (x, weight) in row[whole..].iter_mut().zip(&self.weight[whole..]) {
                    *x *= scale * weight;
                }
            }
        }
    }
}
