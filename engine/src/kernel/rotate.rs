//! Rotary position embedding of rows (the rotate-half convention of Hugging Face), computed in f32.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

use super::flex::{dims, floats, from_floats, into_floats};

/// Tokens a thread takes at a time.
const ROWS_PER_TASK: usize = 128;

/// Cosines and sines of the positions of some rows: `[m, 1, head_dim]` each, f32.
pub struct Rotation<B: Backend> {
    pub cos: FloatTensor<B>,
    pub sin: FloatTensor<B>,
}

/// Plain tensor code.
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

#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub(super) mod cube {
    //! The CubeCL kernel and its launcher: one unit per pair of dimensions that turn together.

    use burn_cubecl::CubeRuntime;
    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::tensor::CubeTensor;
    use cubecl::prelude::*;

    use super::Rotation;
    use crate::kernel::FusionBackend;
    use crate::kernel::cube::{empty, per_element};

    /// Where pair `index` of `[m, heads, head_dim]` has its front half, and where in the tables.
    #[cube]
    pub(in crate::kernel) fn places_of_pair(
        index: usize,
        heads: usize,
        head_dim: usize,
    ) -> (usize, usize) {
        let half = head_dim / 2;
        let dim = index % half;
        let line = index / half; // row and head
        (line * head_dim + dim, line / heads * head_dim + dim)
    }

    #[cube(launch)]
    fn rotate_kernel<F: Float>(
        x: &Tensor<F>,
        cos: &Tensor<f32>,
        sin: &Tensor<f32>,
        out: &mut Tensor<F>,
        #[define(F)] _dtype: StorageType,
    ) {
        let half = x.shape(2) / 2;
        if ABSOLUTE_POS >= x.shape(0) * x.shape(1) * half {
            terminate!();
        }
        let (front, angle) = places_of_pair(ABSOLUTE_POS, x.shape(1), x.shape(2));
        let (a, b) = (f32::cast_from(x[front]), f32::cast_from(x[front + half]));
        out[front] = F::cast_from(a * cos[angle] - b * sin[angle]);
        out[front + half] = F::cast_from(b * cos[angle + half] + a * sin[angle + half]);
    }

    pub(in crate::kernel) fn launch<R: CubeRuntime, B>(
        x: CubeTensor<R>,
        rotation: &Rotation<B>,
    ) -> CubeTensor<R>
    where
        B: FusionBackend<FloatTensorPrimitive = CubeTensor<R>>,
    {
        let x = into_contiguous(x);
        let shape = x.meta.shape();
        let ([m, heads, head_dim], dtype) = ([shape[0], shape[1], shape[2]], x.dtype);
        let out = empty(&x, [m, heads, head_dim], dtype);
        let client = x.client.clone();
        let (cube_count, cube_dim) = per_element(&client, m * heads * head_dim / 2);
        rotate_kernel::launch::<R>(
            &client,
            cube_count,
            cube_dim,
            x.into_tensor_arg(),
            into_contiguous(rotation.cos.clone()).into_tensor_arg(),
            into_contiguous(rotation.sin.clone()).into_tensor_arg(),
            out.clone().into_tensor_arg(),
            dtype.into(),
        );
        out
    }
}
