//! Which kernel runs an operation on a CubeCL backend.
//!
//! Selecting rows for recomputation has no kernel: scores come to the host, which picks the top k with
//! ties to the lower position, the same on every device. The rows are then gathered by Burn's `select`
//! and scattered by [`FusionBackend::write_rows`].
//!
//! On devices with tensor cores, products of 16-bit rows use our kernels, and products of f32 use a kernel that
//! stays in f32. All others are Burn's, which times its kernels when it first meets a shape.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::DType;
use burn_cubecl::element::BoolElement;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime, FloatElement, IntElement};

use super::pinned::Pinned;
use super::{
    add, attend, glu, linear, overwrite_rows, place_block, rms_norm, rotate, row_distance,
    write_rows,
};
use crate::config::Activation;
use crate::kernel::attend::reference as attend_reference;
use crate::kernel::backend::FusionBackend;
use crate::kernel::rotate::Rotation;
use crate::kv::{HostMemory, StoredBlock};

impl<R, F, I, BT> FusionBackend for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    const COMPILES_WHILE_RUNNING: bool = true;

    type Weight = CubeTensor<R>;

    fn host_memory(device: &R::Device) -> Option<Arc<dyn HostMemory>> {
        let pinned = Pinned::new(R::client(device));
        pinned.map(|pinned| Arc::new(pinned) as _)
    }

    /// CUDA pads rows to 512 bytes; the kernels take dense matrices, so the padding is removed once, here.
    fn weight(matrix: CubeTensor<R>) -> CubeTensor<R> {
        into_contiguous(matrix)
    }

    fn project(x: CubeTensor<R>, weight: &CubeTensor<R>) -> CubeTensor<R> {
        if let Some(product) = linear::hopper::project(&x, weight, None) {
            return product;
        }
        if let Some(product) = linear::tensor_cores::Product::new(&x, weight) {
            return product.launch(x, weight.clone());
        }
        if linear::exact::is_needed(&x)
            && let Ok(product) = linear::exact::project(x.clone(), weight.clone())
        {
            return product;
        }
        linear::plain::project::<Self>(x, weight.clone())
    }

    fn embed(weight: &CubeTensor<R>, ids: &[u32]) -> CubeTensor<R> {
        linear::plain::rows::<Self>(weight.clone(), ids)
    }

    fn overwrite_rows(
        buffer: CubeTensor<R>,
        rows: CubeTensor<R>,
        values: CubeTensor<R>,
    ) -> CubeTensor<R> {
        overwrite_rows::launch(buffer, rows, values)
    }

    fn place_block(
        buffers: [CubeTensor<R>; 2],
        start: usize,
        block: &StoredBlock<'_>,
        rotation: &Rotation<Self>,
    ) -> [CubeTensor<R>; 2] {
        place_block::launch(buffers, start, block, rotation)
    }

    fn load_block(block: &StoredBlock<'_>, device: &R::Device) -> [CubeTensor<R>; 2] {
        place_block::load(block, &R::client(device), device)
    }

    fn rotate(x: CubeTensor<R>, rotation: &Rotation<Self>) -> CubeTensor<R> {
        rotate::launch(x, rotation)
    }

    fn attend_rows(
        q: CubeTensor<R>,
        k: CubeTensor<R>,
        v: CubeTensor<R>,
        visible: &[Range<usize>],
    ) -> CubeTensor<R> {
        match attend::Attention::new(&q, &k, visible) {
            Some(attention) => attention.launch(q, k, v),
            None => attend_reference::<Self>(q, k, v, visible),
        }
    }

    fn row_distance(a: CubeTensor<R>, b: CubeTensor<R>) -> CubeTensor<R> {
        row_distance::launch(a, b)
    }

    fn rms_norm(x: CubeTensor<R>, weight: CubeTensor<R>, eps: f64) -> CubeTensor<R> {
        rms_norm::launch(x, weight, eps as f32)
    }

    fn add(x: CubeTensor<R>, y: CubeTensor<R>) -> CubeTensor<R> {
        add::launch(x, y)
    }

    fn glu(gate: CubeTensor<R>, up: CubeTensor<R>, activation: Activation) -> CubeTensor<R> {
        glu::launch(gate, up, activation)
    }

    fn project_gated(
        x: CubeTensor<R>,
        weights: [&CubeTensor<R>; 2],
        activation: Activation,
    ) -> CubeTensor<R> {
        let gated = linear::hopper::project_gated(&x, weights, activation);
        gated
            .or_else(|| linear::tensor_cores::gated_row(&x, weights, activation))
            .unwrap_or_else(|| {
                let [gate, up] = Self::project_pair(x, weights);
                Self::glu(gate, up, activation)
            })
    }

    fn project_add(
        residual: CubeTensor<R>,
        x: CubeTensor<R>,
        weight: &CubeTensor<R>,
    ) -> CubeTensor<R> {
        let sum = linear::hopper::project(&x, weight, Some(&residual));
        sum.or_else(|| linear::tensor_cores::add_to_row(&residual, &x, weight))
            .unwrap_or_else(|| Self::add(residual, Self::project(x, weight)))
    }

    fn project_pair(x: CubeTensor<R>, weights: [&CubeTensor<R>; 2]) -> [CubeTensor<R>; 2] {
        let pair = linear::hopper::project_pair(&x, weights);
        pair.or_else(|| linear::tensor_cores::pair_of_row(&x, weights))
            .unwrap_or_else(|| weights.map(|weight| Self::project(x.clone(), weight)))
    }

    fn write_rows(
        buffers: [CubeTensor<R>; 2],
        rows: CubeTensor<R>,
        values: [CubeTensor<R>; 2],
        rotation: &Rotation<Self>,
    ) -> [CubeTensor<R>; 2] {
        write_rows::launch(buffers, rows, values, rotation)
    }

    fn compile_by_size(device: &R::Device, dtype: DType, head_dim: usize, activation: Activation) {
        linear::hopper::compile_all::<R>(device, dtype, activation);
        attend::compile_all::<R>(device, dtype, head_dim);
    }
}
