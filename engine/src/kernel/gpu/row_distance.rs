//! The deviation of rows (the reference is in `kernel/row_distance.rs`): one cube per row.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{ROW_UNITS, array, empty, per_row, sum_of_row};

#[cube(launch)]
fn row_distance_kernel<F: Float, G: Float>(
    a: &Array<F>,         // [rows, width]
    b: &Array<G>,         // [rows, width]
    out: &mut Array<f32>, // [rows]
    #[define(F)] _a_dtype: StorageType,
    #[define(G)] _b_dtype: StorageType,
) {
    let row = CUBE_POS;
    if row >= out.len() {
        terminate!();
    }
    let width = a.len() / out.len();
    let first = row * width;
    let mut squares = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, width, ROW_UNITS) {
        let difference = f32::cast_from(a[first + i]) - f32::cast_from(b[first + i]);
        squares += difference * difference;
    }
    let sum = sum_of_row(squares);
    if UNIT_POS == 0 {
        out[row] = sum;
    }
}

pub(super) fn launch<R: CubeRuntime>(a: CubeTensor<R>, b: CubeTensor<R>) -> CubeTensor<R> {
    let rows = a.meta.shape()[0];
    let out = empty(&a, [rows], DType::F32);
    if rows == 0 {
        return out;
    }
    let (client, a_dtype, b_dtype) = (a.client.clone(), a.dtype, b.dtype);
    let (cube_count, cube_dim) = per_row(&client, rows);
    row_distance_kernel::launch::<R>(
        &client,
        cube_count,
        cube_dim,
        array(a),
        array(b),
        array(out.clone()),
        a_dtype.into(),
        b_dtype.into(),
    );
    out
}
