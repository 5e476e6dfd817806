//! Row overwrite into a KV buffer (the reference is in `kernel/overwrite_rows.rs`): one unit per vector of `values`.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, per_element, vector_size, writable};

#[cube(launch)]
fn overwrite_rows_kernel<F: Float, N: Size>(
    buffer: &mut Array<Vector<F, N>>, // [n_rows, width]
    rows: &Array<i32>,                // [m]
    values: &Array<Vector<F, N>>,     // [m, width]
    width: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= values.len() {
        terminate!();
    }
    let row = usize::cast_from(rows[ABSOLUTE_POS / width]);
    buffer[row * width + ABSOLUTE_POS % width] = values[ABSOLUTE_POS];
}

pub(super) fn launch<R: CubeRuntime>(
    buffer: CubeTensor<R>,
    rows: CubeTensor<R>,
    values: CubeTensor<R>,
) -> CubeTensor<R> {
    let buffer = writable(buffer);
    let shape = values.meta.shape();
    let (m, width) = (shape[0], shape[1] * shape[2]);
    if m * width == 0 {
        return buffer;
    }
    let (client, dtype) = (buffer.client.clone(), buffer.dtype);
    let n = vector_size(width, dtype);
    let (cube_count, cube_dim) = per_element(&client, m * width / n);
    overwrite_rows_kernel::launch::<R>(
        &client,
        cube_count,
        cube_dim,
        n,
        array(buffer.clone()),
        array(rows),
        array(values),
        width / n,
        dtype.into(),
    );
    buffer
}
