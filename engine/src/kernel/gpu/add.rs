//! The residual addition (the reference is in `kernel/add.rs`): one unit per vector of elements, in f32.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, empty, per_element, vector_size};

#[cube(launch)]
fn add_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    y: &Array<Vector<F, N>>,
    out: &mut Array<Vector<F, N>>,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let sum =
        Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]) + Vector::<f32, N>::cast_from(y[ABSOLUTE_POS]);
    out[ABSOLUTE_POS] = Vector::cast_from(sum);
}

pub(super) fn launch<R: CubeRuntime>(x: CubeTensor<R>, y: CubeTensor<R>) -> CubeTensor<R> {
    let (rows, width, dtype) = (x.meta.shape()[0], x.meta.shape()[1], x.dtype);
    let out = empty(&x, [rows, width], dtype);
    let client = x.client.clone();
    let n = vector_size(width, dtype);
    let (cube_count, cube_dim) = per_element(&client, rows * width / n);
    add_kernel::launch::<R>(
        &client,
        cube_count,
        cube_dim,
        n,
        array(x),
        array(y),
        array(out.clone()),
        dtype.into(),
    );
    out
}
