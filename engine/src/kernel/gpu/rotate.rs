//! Rotary position embedding (the reference is in `kernel/rotate.rs`): one unit per pair of vectors that turn together.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, empty, per_element, vector_size};
use crate::kernel::backend::FusionBackend;
use crate::kernel::rotate::Rotation;

/// How rows `[m, heads, 2 * half]` of vectors turn: vector `i` of a head with vector `i + half`.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Turn<N: Size> {
    cos: Array<Vector<f32, N>>, // [m, 2 * half]
    sin: Array<Vector<f32, N>>, // [m, 2 * half]
    heads: usize,
    pub(super) half: usize,
}

/// A rotation of rows with `heads` heads, in vectors of `n`.
pub(super) fn turn<R: CubeRuntime, B, N: Size>(
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
pub(super) fn turn_size(head_dim: usize, dtype: DType) -> usize {
    vector_size(head_dim / 2, dtype)
}

/// Where pair `index` has its front half; its back half is `half` further on.
#[cube]
pub(super) fn front_of_pair<N: Size>(turn: &Turn<N>, index: usize) -> usize {
    let line = index / turn.half; // row and head
    line * turn.half + index
}

/// The two halves of pair `index`, turned.
#[cube]
pub(super) fn turned<N: Size>(
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

pub(super) fn launch<R: CubeRuntime, B>(x: CubeTensor<R>, rotation: &Rotation<B>) -> CubeTensor<R>
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
