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
    //! The CubeCL kernel and its launcher: one unit per pair of vectors that turn together.

    use burn::tensor::DType;
    use burn_cubecl::CubeRuntime;
    use burn_cubecl::tensor::CubeTensor;
    use cubecl::prelude::*;

    use super::Rotation;
    use crate::kernel::FusionBackend;
    use crate::kernel::cube::{array, empty, per_element, vector_size};

    /// How rows `[m, heads, 2 * half]` of vectors turn: vector `i` of a head with vector `i + half`.
    #[derive(CubeType, CubeLaunch)]
    pub(in crate::kernel) struct Turn<N: Size> {
        cos: Array<Vector<f32, N>>, // [m, 2 * half]
        sin: Array<Vector<f32, N>>, // [m, 2 * half]
        heads: usize,
        pub(in crate::kernel) half: usize,
    }

    /// A rotation of rows with so many heads, in vectors of `n`.
    pub(in crate::kernel) fn turn<R: CubeRuntime, B, N: Size>(
        rotation: &Rotation<B>,
        heads: usize,
        n: usize,
    ) -> TurnLaunch<N, R>
    where
        B: FusionBackend<FloatTensorPrimitive = CubeTensor<R>>,
    {
        let (cos, sin) = (rotation.cos.clone(), rotation.sin.clone());
        let half = cos.meta.shape()[2] / 2 / n;
        TurnLaunch::new(array(cos), array(sin), heads, half)
    }

    /// Values to a vector: as many as divide half a head.
    pub(in crate::kernel) fn turn_size(head_dim: usize, dtype: DType) -> usize {
        vector_size(head_dim / 2, dtype)
    }

    /// Where pair `index` has its front half; the other is `half` behind.
    #[cube]
    pub(in crate::kernel) fn front_of_pair<N: Size>(turn: &Turn<N>, index: usize) -> usize {
        let line = index / turn.half; // row and head
        line * turn.half + index
    }

    /// The two halves of pair `index`, turned.
    #[cube]
    pub(in crate::kernel) fn turned<N: Size>(
        turn: &Turn<N>,
        index: usize,
        a: Vector<f32, N>,
        b: Vector<f32, N>,
    ) -> (Vector<f32, N>, Vector<f32, N>) {
        let row = index / turn.half / turn.heads;
        let front = row * 2 * turn.half + index % turn.half;
        let back = front + turn.half;
        (
            a * turn.cos[front] - b * turn.sin[front],
            b * turn.cos[back] + a * turn.sin[back],
        )
    }

    #[cube(launch)]
    fn rotate_kernel<F: Float, N: Size>(
        x: &Array<Vector<F, N>>, // [m, heads, 2 * half]
        turn: &Turn<N>,
        out: &mut Array<Vector<F, N>>, // [m, heads, 2 * half]
        #[define(F)] _dtype: StorageType,
    ) {
        if ABSOLUTE_POS >= out.len() / 2 {
            terminate!();
        }
        let front = front_of_pair(turn, ABSOLUTE_POS);
        let back = front + turn.half;
        let (a, b) = (Vector::cast_from(x[front]), Vector::cast_from(x[back]));
        let (a, b) = turned(turn, ABSOLUTE_POS, a, b);
        out[front] = Vector::cast_from(a);
        out[back] = Vector::cast_from(b);
    }

    pub(in crate::kernel) fn launch<R: CubeRuntime, B>(
        x: CubeTensor<R>,
        rotation: &Rotation<B>,
    ) -> CubeTensor<R>
    where
        B: FusionBackend<FloatTensorPrimitive = CubeTensor<R>>,
    {
        let shape = x.meta.shape();
        let ([m, heads, head_dim], dtype) = ([shape[0], shape[1], shape[2]], x.dtype);
        let out = empty(&x, [m, heads, head_dim], dtype);
        let client = x.client.clone();
        let n = turn_size(head_dim, dtype);
        let (cube_count, cube_dim) = per_element(&client, m * heads * head_dim / 2 / n);
        rotate_kernel::launch::<R>(
            &client,
            cube_count,
            cube_dim,
            n,
            array(x),
            turn(rotation, heads, n),
            array(out.clone()),
            dtype.into(),
        );
        out
    }
}
