//! The product of one 16-bit row, as in decoding: the weight goes through memory once, and that is all it
//! costs. A plane takes a column.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::kernel::cube::{array, empty};
use crate::kernel::fragments::{OCTET, Octet, PLANE_UNITS, lane, plane};

/// Planes of a cube.
const PLANES: usize = 8;
/// Octets of a lane on their way at once.
const AHEAD: usize = 4;

#[cube(launch)]
fn project_row_kernel<F: Float>(
    x: &Array<Octet<F>>,      // [k / 8]
    weight: &Array<Octet<F>>, // [n, k / 8]
    out: &mut Array<F>,       // [n]
    #[define(F)] _dtype: StorageType,
) {
    let column = CUBE_POS_X as usize * PLANES + plane();
    let octets = x.len();
    let mut sums = Vector::<f32, Const<8>>::new(0.0);
    if column < out.len() {
        let first = column * octets;
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
    }
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..OCTET {
        sum += sums[i];
    }
    let total = plane_sum(sum);
    if lane() == 0 && column < out.len() {
        out[column] = F::cast_from(total);
    }
}

/// `[1, k]` times the transpose of `[n, k]`, both of 16 bits, `k` a multiple of 8, on a device with planes of
/// 32.
pub(super) fn launch<R: CubeRuntime>(x: CubeTensor<R>, weight: CubeTensor<R>) -> CubeTensor<R> {
    let (client, dtype, n) = (x.client.clone(), x.dtype, weight.meta.shape()[0]);
    let out = empty(&x, [1, n], dtype);
    let (x, weight) = (array(x), array(weight));
    let cubes = n.div_ceil(PLANES) as u32;
    let dim = CubeDim::new_1d((PLANES * PLANE_UNITS) as u32);
    let result = array(out.clone());
    let count = CubeCount::Static(cubes, 1, 1);
    project_row_kernel::launch::<R>(&client, count, dim, x, weight, result, dtype.into());
    out
}
