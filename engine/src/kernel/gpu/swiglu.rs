//! The gate of the MLP (the reference is in `kernel/swiglu.rs`): one unit per vector of elements, in f32.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, empty, per_element, vector_size};

#[cube(launch)]
fn swiglu_kernel<F: Float, N: Size>(
    gate: &Array<Vector<F, N>>,
    up: &Array<Vector<F, N>>,
    out: &mut Array<Vector<F, N>>,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let x = Vector::<f32, N>::cast_from(gate[ABSOLUTE_POS]);
    let one = Vector::<f32, N>::new(1.0);
    let zero = Vector::<f32, N>::new(0.0);
    let silu = x / (one + (zero - x).exp());
    out[ABSOLUTE_POS] = Vector::cast_from(silu * Vector::cast_from(up[ABSOLUTE_POS]));
}

pub(super) fn launch<R: CubeRuntime>(gate: CubeTensor<R>, up: CubeTensor<R>) -> CubeTensor<R> {
    let (rows, width, dtype) = (gate.meta.shape()[0], gate.meta.shape()[1], gate.dtype);
    let out = empty(&gate, [rows, width], dtype);
    let client = gate.client.clone();
    let n = vector_size(width, dtype);
    let (cube_count, cube_dim) = per_element(&client, rows * width / n);
    swiglu_kernel::launch::<R>(
        &client,
        cube_count,
        cube_dim,
        n,
        array(gate),
        array(up),
        array(out.clone()),
        dtype.into(),
    );
    out
}
