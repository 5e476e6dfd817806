//! The product of 16-bit matrices on the warpgroups of Hopper (`kernel/hopper.rs`), after CUTLASS's pipelines with a
//! warpgroup that copies.

mod tile;

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use self::tile::{Plan, Tile};
use super::cube::merge;
use crate::kernel::cube::{empty, processors};
use crate::kernel::hopper::{
    self, Left, MARGIN_BYTES, Right, SHARED_BYTES, SPAN, Source, multiply, tensor_map,
};

/// More stages than this hide nothing more.
const MAX_STAGES: usize = 8;
/// Columns of the result that are written together.
const COLUMNS_TOGETHER: usize = 16;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Output {
    /// The product.
    Whole,
    /// Sums in f32 over parts of `k`.
    Parts,
    /// One product gated by another.
    Gated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kernel {
    tile: Tile,
    output: Output,
    dtype: DType,
}

impl Kernel {
    fn stage_bytes(&self) -> usize {
        (self.tile.rows() + self.tile.columns) * SPAN * self.dtype.size()
    }

    /// As many as shared memory holds.
    fn stages(&self) -> usize {
        ((SHARED_BYTES - MARGIN_BYTES) / self.stage_bytes()).min(MAX_STAGES)
    }
}

impl Source for Kernel {
    const NAME: &'static str = "hopper_product";

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn groups(&self) -> usize {
        self.tile.groups
    }

    fn shared_bytes(&self) -> usize {
        self.stages() * self.stage_bytes() + MARGIN_BYTES
    }

    fn defines(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("COLUMNS", self.tile.columns),
            ("STAGES", self.stages()),
            ("GATED", (self.output == Output::Gated).into()),
            ("PARTIAL", (self.output == Output::Parts).into()),
        ]
    }

    fn code(&self) -> String {
        let (left, right) = (Left::Shared, Right::Transposed);
        let multiply = multiply("multiply", self.dtype, self.tile.columns, left, right);
        multiply + include_str!("hopper/product.cu")
    }
}

/// Whether the kernel takes `[m, k]` times the transpose of `[n, k]` on this device.
fn fits<R: CubeRuntime>(x: &CubeTensor<R>, weight: &CubeTensor<R>) -> bool {
    let [m, k, n] = sizes(x, weight);
    hopper::is_here(&x.client)
        && hopper::multiplies(x.dtype)
        && x.dtype == weight.dtype
        && m > 1
        && k > 0
        && (k * x.dtype.size()).is_multiple_of(16)
        && n.is_multiple_of(COLUMNS_TOGETHER)
}

/// `m`, `k` and `n`.
fn sizes<R: CubeRuntime>(x: &CubeTensor<R>, weight: &CubeTensor<R>) -> [usize; 3] {
    let (x, weight) = (x.meta.shape(), weight.meta.shape());
    [x[0], x[1], weight[0]]
}

/// `[m, k]` times the transpose of `[n, k]`, in the dtype of `x`; `None` where the kernel does not fit.
pub(in crate::kernel) fn project<R: CubeRuntime>(
    x: &CubeTensor<R>,
    weight: &CubeTensor<R>,
) -> Option<CubeTensor<R>> {
    if !fits(x, weight) {
        return None;
    }
    let [m, k, n] = sizes(x, weight);
    let plan = Plan::of_product([m, k, n], processors(&x.client));
    let out = empty(x, [m, n], x.dtype);
    if plan.parts == 1 {
        launch(Output::Whole, &plan, x, &[weight], &out);
        return Some(out);
    }
    let sums = empty(x, [plan.parts, m, n], DType::F32);
    launch(Output::Parts, &plan, x, &[weight], &sums);
    Some(merge(sums, out))
}

/// `silu(x gate^T) * (x up^T)`, in the dtype of `x`; `None` where the kernel does not fit, or two products and one pass
/// over both are faster.
pub(in crate::kernel) fn project_gated<R: CubeRuntime>(
    x: &CubeTensor<R>,
    gate: &CubeTensor<R>,
    up: &CubeTensor<R>,
) -> Option<CubeTensor<R>> {
    if !fits(x, gate) || !fits(x, up) {
        return None;
    }
    let [m, k, n] = sizes(x, gate);
    let plan = Plan::of_gated([m, k, n], processors(&x.client))?;
    let out = empty(x, [m, n], x.dtype);
    launch(Output::Gated, &plan, x, &[gate, up], &out);
    Some(out)
}

/// Compiles every kernel for matrices of this dtype: which of them a product takes depends on its rows.
pub(in crate::kernel) fn compile_all<R: CubeRuntime>(device: &R::Device, dtype: DType) {
    let client = R::client(device);
    let matrix = |rows| {
        let shape = Shape::from([rows, SPAN]);
        empty_device_contiguous_dtype(client.clone(), device.clone(), shape, dtype)
    };
    let (x, weight): (CubeTensor<R>, CubeTensor<R>) = (matrix(2), matrix(COLUMNS_TOGETHER));
    if !fits(&x, &weight) {
        return;
    }
    let out = empty(&x, [2, COLUMNS_TOGETHER], DType::F32);
    for plan in Plan::one_of_each_tile() {
        launch(Output::Whole, &plan, &x, &[&weight], &out);
        launch(Output::Parts, &plan, &x, &[&weight], &out);
        launch(Output::Gated, &plan, &x, &[&weight, &weight], &out);
    }
}

fn launch<R: CubeRuntime>(
    output: Output,
    plan: &Plan,
    x: &CubeTensor<R>,
    weights: &[&CubeTensor<R>],
    out: &CubeTensor<R>,
) {
    let kernel = Kernel {
        tile: plan.tile,
        output,
        dtype: x.dtype,
    };
    let [m, k, n] = sizes(x, weights[0]);
    let columns = plan.tile.columns / weights.len();
    let x_map = tensor_map(x, [m, k], plan.tile.rows());
    let weight_maps = weights.iter().map(|w| tensor_map(w, [n, k], columns));
    let maps = std::iter::once(x_map).chain(weight_maps).collect();
    let cubes = [plan.tiles.min(processors(&x.client)), 1, 1];
    let sizes = [m, n, k.div_ceil(SPAN), plan.part, plan.parts];
    hopper::launch(&x.client, kernel, cubes, maps, vec![out.clone()], sizes);
}
