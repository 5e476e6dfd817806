//! RMS normalisation (the reference is in `kernel/rms_norm.rs`): one cube per row, one unit per vector of elements.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{ROW_UNITS, array, empty, per_row, sum_of_row, vector_size};

#[cube(launch)]
fn rms_norm_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,        // [rows, width / N]
    weight: &Array<Vector<f32, N>>, // [width / N]
    out: &mut Array<Vector<F, N>>,  // [rows, width / N]
    eps: f32,
    #[define(F)] _dtype: StorageType,
) {
    let row = CUBE_POS;
    let vectors = weight.len();
    let first = row * vectors;
    if first >= out.len() {
        terminate!();
    }
    let mut squares = Vector::<f32, N>::new(0.0);
    for i in range_stepped(UNIT_POS as usize, vectors, ROW_UNITS) {
        let values = Vector::<f32, N>::cast_from(x[first + i]);
        squares += values * values;
    }
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..N::value() {
        sum += squares[i];
    }
    let mean = sum_of_row(sum) / (vectors * N::value()) as f32;
    let scale = Vector::<f32, N>::new(1.0 / (mean + eps).sqrt());
    for i in range_stepped(UNIT_POS as usize, vectors, ROW_UNITS) {
        let values = Vector::<f32, N>::cast_from(x[first + i]);
        out[first + i] = Vector::cast_from(values * scale * weight[i]);
    }
}

pub(super) fn launch<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    eps: f32,
) -> CubeTensor<R> {
    let (rows, width, dtype) = (x.meta.shape()[0], x.meta.shape()[1], x.dtype);
    let out = empty(&x, [rows, width], dtype);
    let client = x.client.clone();
    let n = vector_size(width, dtype);
    let (cube_count, cube_dim) = per_row(&client, rows);
    rms_norm_kernel::launch::<R>(
        &client,
        cube_count,
        cube_dim,
        n,
        array(x),
        array(weight),
        array(out.clone()),
        eps,
        dtype.into(),
    );
    out
}
