//! The product of 16-bit matrices on the warpgroups of Hopper (`gpu/hopper.rs`), after CUTLASS's pipelines with a
//! warpgroup for copies.

mod tile;

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;

use self::tile::{Plan, WarpgroupTile};
use super::tensor_cores::merge;
use crate::config::Activation;
use crate::kernel::gpu::hopper::{
    self, Launch, Left, MARGIN_BYTES, Right, SHARED_BYTES, SPAN, Source, multiply, tensor_map,
};
use crate::kernel::gpu::launch::{empty, halves, processors};

/// More stages than this bring no gain.
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
    Gated(Activation),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kernel {
    tile: WarpgroupTile,
    output: Output,
    dtype: DType,
}

impl Kernel {
    fn stage_bytes(&self) -> usize {
        (self.tile.rows() + self.tile.columns) * SPAN * self.dtype.size()
    }

    /// As many stages as shared memory holds.
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
            ("GATED", matches!(self.output, Output::Gated(_)).into()),
            (
                "GELU",
                (self.output == Output::Gated(Activation::GeluTanh)).into(),
            ),
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
        && n > 0
        && (k * x.dtype.size()).is_multiple_of(16)
        && n.is_multiple_of(COLUMNS_TOGETHER)
}

/// `m`, `k` and `n`.
fn sizes<R: CubeRuntime>(x: &CubeTensor<R>, weight: &CubeTensor<R>) -> [usize; 3] {
    let (x, weight) = (x.meta.shape(), weight.meta.shape());
    [x[0], x[1], weight[0]]
}

/// One launch: what is multiplied, and what is added.
#[derive(Clone, Copy)]
struct Work<'a, R: CubeRuntime> {
    x: &'a CubeTensor<R>,
    /// One, or two of the same sizes.
    weights: &'a [&'a CubeTensor<R>],
    residual: Option<&'a CubeTensor<R>>,
}

/// `[m, k]` times the transpose of each weight, `[n, k]`: `[weights, m, n]`, in the dtype of `x`. `None` if the
/// kernel does not fit.
fn products<R: CubeRuntime>(work: Work<'_, R>) -> Option<CubeTensor<R>> {
    if !work.weights.iter().all(|weight| fits(work.x, weight)) {
        return None;
    }
    let [m, k, n] = sizes(work.x, work.weights[0]);
    debug_assert!(
        work.weights
            .iter()
            .all(|weight| weight.meta.shape()[0] == n)
    );
    let n_weights = work.weights.len();
    let plan = Plan::of_products([m, k, n], n_weights, processors(&work.x.client));
    let out = empty(work.x, [n_weights, m, n], work.x.dtype);
    if plan.parts == 1 {
        work.launch(Output::Whole, &plan, &out);
        return Some(out);
    }
    let sums = empty(work.x, [plan.parts, n_weights * m, n], DType::F32);
    work.launch(Output::Parts, &plan, &sums);
    Some(merge(sums, work.residual.cloned(), out))
}

/// `x W^T`, and `residual` if there is one: `[m, n]`. `None` if the kernel does not fit.
pub(in crate::kernel::gpu) fn project<R: CubeRuntime>(
    x: &CubeTensor<R>,
    weight: &CubeTensor<R>,
    residual: Option<&CubeTensor<R>>,
) -> Option<CubeTensor<R>> {
    let weights = &[weight];
    let product = products(Work {
        x,
        weights,
        residual,
    })?;
    let shape = [x.meta.shape()[0], weight.meta.shape()[0]];
    Some(reshape(product, Shape::from(shape)))
}

/// `x W^T` of two weights of the same sizes: `[m, n]` each. `None` if the kernel does not fit.
pub(in crate::kernel::gpu) fn project_pair<R: CubeRuntime>(
    x: &CubeTensor<R>,
    weights: [&CubeTensor<R>; 2],
) -> Option<[CubeTensor<R>; 2]> {
    let residual = None;
    let pair = products(Work {
        x,
        weights: &weights,
        residual,
    })?;
    let shape = [2 * x.meta.shape()[0], weights[0].meta.shape()[0]];
    Some(halves(reshape(pair, Shape::from(shape))))
}

/// `activation(x gate^T) * (x up^T)`, in the dtype of `x`; `None` if the kernel does not fit, or two products and one pass
/// over both are faster.
pub(in crate::kernel::gpu) fn project_gated<R: CubeRuntime>(
    x: &CubeTensor<R>,
    weights: [&CubeTensor<R>; 2],
    activation: Activation,
) -> Option<CubeTensor<R>> {
    if !weights.iter().all(|weight| fits(x, weight)) {
        return None;
    }
    let [m, k, n] = sizes(x, weights[0]);
    let plan = Plan::of_gated([m, k, n], processors(&x.client))?;
    let out = empty(x, [m, n], x.dtype);
    let work = Work {
        x,
        weights: &weights,
        residual: None,
    };
    work.launch(Output::Gated(activation), &plan, &out);
    Some(out)
}

/// Compiles every kernel for matrices of this dtype and an MLP with this activation: which one a product uses depends on
/// its number of rows.
pub(in crate::kernel::gpu) fn compile_all<R: CubeRuntime>(
    device: &R::Device,
    dtype: DType,
    activation: Activation,
) {
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
    let work = Work {
        x: &x,
        weights: &[&weight, &weight],
        residual: None,
    };
    for plan in Plan::one_of_each_tile() {
        let alone = Work {
            weights: &work.weights[..1],
            ..work
        };
        alone.launch(Output::Whole, &plan, &out);
        alone.launch(Output::Parts, &plan, &out);
        work.launch(Output::Gated(activation), &plan, &out);
    }
}

impl<R: CubeRuntime> Work<'_, R> {
    fn launch(&self, output: Output, plan: &Plan, out: &CubeTensor<R>) {
        let kernel = Kernel {
            tile: plan.tile,
            output,
            dtype: self.x.dtype,
        };
        let columns = match output {
            Output::Whole | Output::Parts => plan.tile.columns,
            Output::Gated(_) => plan.tile.columns / 2,
        };
        let [m, k, n] = sizes(self.x, self.weights[0]);
        let x_map = tensor_map(self.x, [m, k], plan.tile.rows());
        // The kernel has arguments for two weights and a residual, whether or not it reads them.
        let [first, second] = [self.weights[0], self.weights[self.weights.len() - 1]];
        let weight_maps = [first, second].map(|weight| tensor_map(weight, [n, k], columns));
        let maps = std::iter::once(x_map).chain(weight_maps).collect();
        let residual = into_contiguous(self.residual.unwrap_or(out).clone());
        let processors = processors(&self.x.client);
        let cubes = [plan.tiles.min(processors), 1, 1];
        let (weights, adds) = (self.weights.len(), usize::from(self.residual.is_some()));
        let sizes = [m, n, k.div_ceil(SPAN), plan.part, plan.parts, weights, adds];
        let buffers = vec![residual, out.clone()];
        let launch = Launch {
            cubes,
            maps,
            buffers,
            sizes,
        };
        launch.run(&self.x.client, kernel);
    }
}
