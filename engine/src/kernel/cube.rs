//! The operations on CubeCL backends, CUDA and Vulkan, and what their launchers share.
//!
//! Selecting rows for recomputation has no kernel: scores come to the host, which picks the top k with
//! ties to the lower position, the same on every device. The rows are then gathered by Burn's `select`
//! and scattered by [`FusionBackend::write_rows`].
//!
//! Products of 16-bit rows are ours where the device has tensor cores for them, and those of f32 stay f32
//! there. Others, and those that neither kernel fits, are Burn's, which times its kernels for a shape when it
//! first meets it.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Bytes, DType, Shape, StreamId};
use burn_cubecl::element::BoolElement;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::calculate_cube_count_elemwise;
use cubecl::device::Device;
use cubecl::device_handle::DeviceHandle;
use cubecl::prelude::*;
use cubecl::server::{ComputeServer, CubeCountSelection, Handle};

use super::pinned::Pinned;
use super::rotate::Rotation;
use super::{
    FusionBackend, add, attend, linear, overwrite_rows, place_block, rms_norm, rotate,
    row_distance, swiglu, write_rows,
};
use crate::kv::{HostMemory, StoredBlock};

/// Units of a cube that reduces one row.
pub(super) const ROW_UNITS: usize = 256;
/// Multiprocessors, where the runtime does not tell.
const GUESSED_PROCESSORS: usize = 16;

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

    /// CUDA pads rows to 512 bytes; the kernels take whole matrices, so the padding goes once, here.
    fn weight(matrix: CubeTensor<R>) -> CubeTensor<R> {
        into_contiguous(matrix)
    }

    fn project(x: CubeTensor<R>, weight: &CubeTensor<R>) -> CubeTensor<R> {
        if let Some(product) = linear::hopper::project(&x, weight, None) {
            return product;
        }
        if let Some(product) = linear::cube::Product::new(&x, weight) {
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
        overwrite_rows::cube::launch(buffer, rows, values)
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
        rotate::cube::launch(x, rotation)
    }

    fn attend_rows(
        q: CubeTensor<R>,
        k: CubeTensor<R>,
        v: CubeTensor<R>,
        visible: &[Range<usize>],
    ) -> CubeTensor<R> {
        match attend::cube::Attention::new(&q, &k, visible) {
            Some(attention) => attention.launch(q, k, v),
            None => attend::reference::<Self>(q, k, v, visible),
        }
    }

    fn row_distance(a: CubeTensor<R>, b: CubeTensor<R>) -> CubeTensor<R> {
        row_distance::cube::launch(a, b)
    }

    fn rms_norm(x: CubeTensor<R>, weight: CubeTensor<R>, eps: f64) -> CubeTensor<R> {
        rms_norm::cube::launch(x, weight, eps as f32)
    }

    fn add(x: CubeTensor<R>, y: CubeTensor<R>) -> CubeTensor<R> {
        add::cube::launch(x, y)
    }

    fn swiglu(gate: CubeTensor<R>, up: CubeTensor<R>) -> CubeTensor<R> {
        swiglu::cube::launch(gate, up)
    }

    fn project_gated(x: CubeTensor<R>, weights: [&CubeTensor<R>; 2]) -> CubeTensor<R> {
        let gated = linear::hopper::project_gated(&x, weights);
        gated
            .or_else(|| linear::cube::gated_row(&x, weights))
            .unwrap_or_else(|| {
                let [gate, up] = Self::project_pair(x, weights);
                Self::swiglu(gate, up)
            })
    }

    fn project_add(
        residual: CubeTensor<R>,
        x: CubeTensor<R>,
        weight: &CubeTensor<R>,
    ) -> CubeTensor<R> {
        let sum = linear::hopper::project(&x, weight, Some(&residual));
        sum.or_else(|| linear::cube::add_to_row(&residual, &x, weight))
            .unwrap_or_else(|| Self::add(residual, Self::project(x, weight)))
    }

    fn project_pair(x: CubeTensor<R>, weights: [&CubeTensor<R>; 2]) -> [CubeTensor<R>; 2] {
        let pair = linear::hopper::project_pair(&x, weights);
        pair.or_else(|| linear::cube::pair_of_row(&x, weights))
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

    fn compile_by_size(device: &R::Device, dtype: DType, head_dim: usize) {
        linear::hopper::compile_all::<R>(device, dtype);
        attend::cube::compile_all::<R>(device, dtype, head_dim);
    }
}

/// A tensor as an argument of a kernel: its values in a row, whose sizes go beside it where a kernel needs them.
/// Those of a `Tensor` would be copied to the device at every launch.
pub(super) fn array<R: CubeRuntime>(tensor: CubeTensor<R>) -> ArrayArg<R> {
    into_contiguous(tensor).into_array_arg()
}

/// A contiguous tensor beside `like`, its values not set.
pub(super) fn empty<R: CubeRuntime, const D: usize>(
    like: &CubeTensor<R>,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor<R> {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, Shape::from(shape), dtype)
}

/// A contiguous tensor of what `handle` holds.
pub(super) fn on_device<R: CubeRuntime>(
    handle: Handle,
    shape: Shape,
    dtype: DType,
    client: &ComputeClient<R>,
    device: &R::Device,
) -> CubeTensor<R> {
    CubeTensor::new_contiguous(client.clone(), device.clone(), shape, handle, dtype)
}

/// `bytes` on the device, copied from where they lie once the work before is done. They are held
/// until the device is known to have copied them, which CubeCL asks after every 64 of them, or 64 MiB.
/// `ComputeClient::create` of CubeCL 0.10 copies them into fresh memory first, which no device copies from by
/// itself: three times slower than what follows.
pub(super) fn upload<R: CubeRuntime>(
    bytes: Bytes,
    client: &ComputeClient<R>,
    device: &R::Device,
) -> Handle {
    let handle = client.empty(bytes.len());
    let target = handle.clone();
    let target = target.copy_descriptor([bytes.len()].into(), [1].into(), 1);
    let stream = StreamId::current();
    let device = DeviceHandle::<R::Server>::new(device.to_id());
    device.submit(move |server| server.write(vec![(target, bytes)], stream));
    handle
}

/// A tensor to be written in place: contiguous and with one owner, so copied if it is not.
pub(super) fn writable<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let tensor = into_contiguous(tensor);
    match tensor.can_mut() {
        true => tensor,
        false => tensor.copy(),
    }
}

/// Elements to a vector of at most 16 bytes: as many as divide a row.
pub(super) fn vector_size(width: usize, dtype: DType) -> usize {
    let powers = (0..=(16 / dtype.size()).ilog2()).rev();
    let mut sizes = powers.map(|power| 1 << power);
    sizes.find(|&n| width.is_multiple_of(n)).unwrap_or(1)
}

/// Multiprocessors of the device; a guess where the runtime does not tell.
pub(super) fn processors<R: CubeRuntime>(client: &ComputeClient<R>) -> usize {
    let told = client.properties().hardware.num_streaming_multiprocessors;
    told.map_or(GUESSED_PROCESSORS, |n| n as usize)
}

/// One unit per element.
pub(super) fn per_element<R: CubeRuntime>(
    client: &ComputeClient<R>,
    n_elements: usize,
) -> (CubeCount, CubeDim) {
    let cube_dim = CubeDim::new(client, n_elements);
    let cube_count = calculate_cube_count_elemwise(client, n_elements, cube_dim);
    (cube_count, cube_dim)
}

/// One cube of [`ROW_UNITS`] per row; there may be more cubes than rows.
pub(super) fn per_row<R: CubeRuntime>(
    client: &ComputeClient<R>,
    n_rows: usize,
) -> (CubeCount, CubeDim) {
    let cube_count = CubeCountSelection::new(client, n_rows as u32).cube_count();
    (cube_count, CubeDim::new_1d(ROW_UNITS as u32))
}

/// The sum of a value over the units of a cube of [`ROW_UNITS`].
#[cube]
pub(super) fn sum_of_row(value: f32) -> f32 {
    let unit = UNIT_POS as usize;
    let mut sums = SharedMemory::<f32>::new(ROW_UNITS);
    sums[unit] = value;
    sync_cube();
    let mut width = CUBE_DIM as usize / 2;
    while width > 0 {
        if unit < width {
            sums[unit] += sums[unit + width];
        }
        sync_cube();
        width /= 2;
    }
    sums[0]
}
