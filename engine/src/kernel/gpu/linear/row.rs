//! Products of a single 16-bit row, as in decoding. Their whole cost is reading the weight from memory once.
//! A plane computes a column.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::config::Activation;
use crate::kernel::gpu::fragments::{OCTET, Octet, PLANE_UNITS, lane, plane};
use crate::kernel::gpu::glu::activate_one;
use crate::kernel::gpu::launch::{array, empty, halves};

/// Planes of a cube.
const PLANES: usize = 8;
/// Octets that a lane loads at once.
const AHEAD: usize = 4;

/// The column of the plane, over all cubes.
#[cube]
fn plane_column() -> usize {
    CUBE_POS_X as usize * PLANES + plane()
}

/// `x` times row `column` of the weight, in every lane.
#[cube]
fn dot<F: Float>(x: &Array<Octet<F>>, weight: &Array<Octet<F>>, column: usize) -> f32 {
    let (octets, first) = (x.len(), column * x.len());
    let mut sums = Vector::<f32, Const<8>>::new(0.0);
    for round in range_stepped(0, octets, comptime!(AHEAD * PLANE_UNITS)) {
        #[unroll]
        for i in 0..AHEAD {
            let octet = round + i * PLANE_UNITS + lane();
            if octet < octets {
                let values = Vector::<f32, Const<8>>::cast_from(weight[first + octet]);
                sums += values * Vector::<f32, Const<8>>::cast_from(x[octet]);
            }
        }
    }
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..OCTET {
        sum += sums[i];
    }
    plane_sum(sum)
}

#[cube(launch)]
fn project_row_kernel<F: Float>(
    x: &Array<Octet<F>>,      // [k / 8]
    weight: &Array<Octet<F>>, // [n, k / 8]
    out: &mut Array<F>,       // [n]
    #[define(F)] _dtype: StorageType,
) {
    let column = plane_column();
    if column < out.len() {
        let sum = dot(x, weight, column);
        if lane() == 0 {
            out[column] = F::cast_from(sum);
        }
    }
}

#[cube(launch)]
fn add_row_kernel<F: Float>(
    residual: &Array<F>,      // [n]
    x: &Array<Octet<F>>,      // [k / 8]
    weight: &Array<Octet<F>>, // [n, k / 8]
    out: &mut Array<F>,       // [n]
    #[define(F)] _dtype: StorageType,
) {
    let column = plane_column();
    if column < out.len() {
        let sum = dot(x, weight, column);
        if lane() == 0 {
            out[column] = F::cast_from(f32::cast_from(residual[column]) + sum);
        }
    }
}

#[cube(launch)]
fn pair_row_kernel<F: Float>(
    x: &Array<Octet<F>>,     // [k / 8]
    first: &Array<Octet<F>>, // [n, k / 8]
    second: &Array<Octet<F>>,
    out: &mut Array<F>, // [2, n]
    #[define(F)] _dtype: StorageType,
) {
    let (column, n) = (plane_column(), out.len() / 2);
    if column < out.len() {
        let mut sum = 0.0f32;
        if column < n {
            sum += dot(x, first, column);
        } else {
            sum += dot(x, second, column - n);
        }
        if lane() == 0 {
            out[column] = F::cast_from(sum);
        }
    }
}

/// The plane's column of both products.
#[cube(launch)]
fn gate_row_kernel<F: Float>(
    x: &Array<Octet<F>>,    // [k / 8]
    gate: &Array<Octet<F>>, // [n, k / 8]
    up: &Array<Octet<F>>,   // [n, k / 8]
    out: &mut Array<F>,     // [n]
    #[comptime] activation: Activation,
    #[define(F)] _dtype: StorageType,
) {
    let column = plane_column();
    if column < out.len() {
        let (gate, up) = (dot(x, gate, column), dot(x, up, column));
        if lane() == 0 {
            out[column] = F::cast_from(activate_one(gate, activation) * up);
        }
    }
}

/// A plane for each of `n` columns.
fn per_column(n: usize) -> (CubeCount, CubeDim) {
    let cubes = n.div_ceil(PLANES) as u32;
    let dim = CubeDim::new_1d((PLANES * PLANE_UNITS) as u32);
    (CubeCount::Static(cubes, 1, 1), dim)
}

/// `[1, k]` times the transpose of `[n, k]`, both of 16 bits, `k` a multiple of 8, on a device with planes of
/// 32.
pub(super) fn project<R: CubeRuntime>(x: CubeTensor<R>, weight: CubeTensor<R>) -> CubeTensor<R> {
    let (client, dtype, n) = (x.client.clone(), x.dtype, weight.meta.shape()[0]);
    let out = empty(&x, [1, n], dtype);
    let (count, dim) = per_column(n);
    let [x, weight, result] = [x, weight, out.clone()].map(array);
    project_row_kernel::launch::<R>(&client, count, dim, x, weight, result, dtype.into());
    out
}

/// The same, added to `residual`, `[1, n]`.
pub(super) fn project_add<R: CubeRuntime>(
    residual: CubeTensor<R>,
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
) -> CubeTensor<R> {
    let (client, dtype, n) = (x.client.clone(), x.dtype, weight.meta.shape()[0]);
    let out = empty(&x, [1, n], dtype);
    let (count, dim) = per_column(n);
    let [residual, x, weight, result] = [residual, x, weight, out.clone()].map(array);
    add_row_kernel::launch::<R>(
        &client,
        count,
        dim,
        residual,
        x,
        weight,
        result,
        dtype.into(),
    );
    out
}

/// Two products, of weights of the same sizes.
pub(super) fn project_pair<R: CubeRuntime>(
    x: CubeTensor<R>,
    weights: [CubeTensor<R>; 2],
) -> [CubeTensor<R>; 2] {
    let (client, dtype, n) = (x.client.clone(), x.dtype, weights[0].meta.shape()[0]);
    let out = empty(&x, [2, n], dtype);
    let (count, dim) = per_column(2 * n);
    let [first, second] = weights.map(array);
    let (x, result) = (array(x), array(out.clone()));
    pair_row_kernel::launch::<R>(&client, count, dim, x, first, second, result, dtype.into());
    halves(out)
}

/// One product gated by another, of weights of the same sizes.
pub(super) fn project_gated<R: CubeRuntime>(
    x: CubeTensor<R>,
    weights: [CubeTensor<R>; 2],
    activation: Activation,
) -> CubeTensor<R> {
    let (client, dtype, n) = (x.client.clone(), x.dtype, weights[0].meta.shape()[0]);
    let out = empty(&x, [1, n], dtype);
    let (count, dim) = per_column(n);
    let [gate, up] = weights.map(array);
    let (x, result) = (array(x), array(out.clone()));
    gate_row_kernel::launch::<R>(
        &client,
        count,
        dim,
        x,
        gate,
        up,
        result,
        activation,
        dtype.into(),
    );
    out
}
