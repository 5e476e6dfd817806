//! The product of 16-bit matrices on tensor cores: many tiles at once, each with copies running ahead of
//! the products (as in CUTLASS's pipelined kernels).
//!
//! Burn's own product tries dozens of kernels when it first sees a shape, which takes minutes on a new device,
//! and the one it chooses is slower (figures in `docs/results/gpu.md`). It is still used on devices without
//! fragments.

mod kernel;
mod tile;

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use self::kernel::{
    MatrixLaunch, merge_add_kernel, merge_kernel, project_kernel, project_part_kernel,
};
use self::tile::{ProductTile, STAGE_OCTETS};
use super::row;
use crate::config::Activation;
use crate::kernel::gpu::fragments::{self, OCTET};
use crate::kernel::gpu::launch::{array, empty, per_element, processors};

/// Cubes per multiprocessor that keep it busy.
const CUBES_PER_PROCESSOR: usize = 2;
/// The fewest stages of a part: with fewer, merging would cost more than it gains.
const MIN_STAGES_PER_PART: usize = 8;

/// One launch: the sizes and how the work is split.
pub(in crate::kernel::gpu) struct Product {
    tile: ProductTile,
    m: usize,
    n: usize,
    /// Cubes of rows, of columns, parts of the sums.
    cubes: [usize; 3],
    /// Stages of a part.
    part: usize,
}

impl Product {
    /// `[m, k]` times the transpose of `[n, k]`; `None` if the kernel does not fit the device, the
    /// types or the sizes.
    pub(in crate::kernel::gpu) fn new<R: CubeRuntime>(
        x: &CubeTensor<R>,
        weight: &CubeTensor<R>,
    ) -> Option<Self> {
        let (m, k, n) = (x.meta.shape()[0], x.meta.shape()[1], weight.meta.shape()[0]);
        let hardware = &x.client.properties().hardware;
        let tile = ProductTile::new(m, hardware.max_shared_memory_size);
        let fits = m > 0
            && k > 0
            && k.is_multiple_of(OCTET)
            && n.is_multiple_of(2)
            && x.dtype == weight.dtype
            && matches!(x.dtype, DType::F16 | DType::BF16)
            && tile.shared_bytes() <= hardware.max_shared_memory_size
            && fragments::are_supported(&x.client, x.dtype.into());
        if !fits {
            return None;
        }
        let (rows, columns) = (m.div_ceil(tile.rows()), n.div_ceil(tile.columns()));
        let stages = k.div_ceil(STAGE_OCTETS * OCTET);
        let wanted = processors(&x.client) * CUBES_PER_PROCESSOR;
        let parts = wanted / (rows * columns);
        let part = stages.div_ceil(parts.clamp(1, stages.div_ceil(MIN_STAGES_PER_PART)));
        Some(Self {
            tile,
            m,
            n,
            cubes: [rows, columns, stages.div_ceil(part)],
            part,
        })
    }

    /// `[m, n]`, in the dtype of `x`.
    pub(in crate::kernel::gpu) fn launch<R: CubeRuntime>(
        self,
        x: CubeTensor<R>,
        weight: CubeTensor<R>,
    ) -> CubeTensor<R> {
        if self.m == 1 {
            return row::project(x, weight);
        }
        let (client, dtype) = (x.client.clone(), x.dtype);
        let out = empty(&x, [self.m, self.n], dtype);
        let [rows, columns, parts] = self.cubes;
        let count = CubeCount::Static(rows as u32, columns as u32, parts as u32);
        let dim = CubeDim::new_1d(self.tile.units() as u32);
        if parts == 1 {
            let result = array(out.clone());
            project_kernel::launch::<R>(
                &client,
                count,
                dim,
                matrix(x),
                matrix(weight),
                result,
                self.tile,
                dtype.into(),
            );
            return out;
        }
        let sums = empty(&out, [parts, self.m, self.n], DType::F32);
        let result = array(sums.clone());
        project_part_kernel::launch::<R>(
            &client,
            count,
            dim,
            matrix(x),
            matrix(weight),
            result,
            self.part,
            self.tile,
            dtype.into(),
        );
        merge(sums, None, out)
    }
}

fn matrix<F: Float, R: CubeRuntime>(tensor: CubeTensor<R>) -> MatrixLaunch<F, R> {
    let shape = tensor.meta.shape();
    let (rows, octets) = (shape[0], shape[1] / OCTET);
    MatrixLaunch::new(array(tensor), rows, octets)
}

/// The sum of the parts, and of `residual` if there is one, in `out`.
pub(super) fn merge<R: CubeRuntime>(
    sums: CubeTensor<R>,
    residual: Option<CubeTensor<R>>,
    out: CubeTensor<R>,
) -> CubeTensor<R> {
    let (client, dtype) = (out.client.clone(), out.dtype.into());
    let (count, dim) = per_element(&client, out.meta.shape().num_elements() / 2);
    let (sums, result) = (array(sums), array(out.clone()));
    match residual.map(array) {
        None => merge_kernel::launch::<R>(&client, count, dim, sums, result, dtype),
        Some(residual) => {
            merge_add_kernel::launch::<R>(&client, count, dim, sums, residual, result, dtype);
        }
    }
    out
}

/// Products of a single 16-bit row with two weights of the same sizes; `None` if the device, the types or the
/// sizes do not fit.
pub(in crate::kernel::gpu) fn pair_of_row<R: CubeRuntime>(
    x: &CubeTensor<R>,
    weights: [&CubeTensor<R>; 2],
) -> Option<[CubeTensor<R>; 2]> {
    is_row(x, &weights).then(|| row::project_pair(x.clone(), weights.map(Clone::clone)))
}

/// One product of a single 16-bit row gated by another; `None` as for [`pair_of_row`].
pub(in crate::kernel::gpu) fn gated_row<R: CubeRuntime>(
    x: &CubeTensor<R>,
    weights: [&CubeTensor<R>; 2],
    activation: Activation,
) -> Option<CubeTensor<R>> {
    is_row(x, &weights)
        .then(|| row::project_gated(x.clone(), weights.map(Clone::clone), activation))
}

/// The product of a single 16-bit row, added to `residual`; `None` as for [`pair_of_row`].
pub(in crate::kernel::gpu) fn add_to_row<R: CubeRuntime>(
    residual: &CubeTensor<R>,
    x: &CubeTensor<R>,
    weight: &CubeTensor<R>,
) -> Option<CubeTensor<R>> {
    is_row(x, &[weight]).then(|| row::project_add(residual.clone(), x.clone(), weight.clone()))
}

/// Whether `x` is one row, and `linear/row.rs` takes its products with all of these.
fn is_row<R: CubeRuntime>(x: &CubeTensor<R>, weights: &[&CubeTensor<R>]) -> bool {
    x.meta.shape()[0] == 1
        && weights
            .iter()
            .all(|weight| Product::new(x, weight).is_some())
}
