//! What the launchers share: tensors as arguments and results of kernels, and how work is spread
//! over a device.

use burn::tensor::{Bytes, DType, Shape, StreamId};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::device::Device;
use cubecl::device_handle::DeviceHandle;
use cubecl::prelude::*;
use cubecl::server::{ComputeServer, CubeCountSelection, Handle};

/// Units of a cube that reduces one row.
pub(super) const ROW_UNITS: usize = 256;
/// Multiprocessors assumed if the runtime does not report them.
const GUESSED_PROCESSORS: usize = 16;

/// A tensor as an argument of a kernel: its values as one array. Sizes are separate arguments if a kernel needs them.
/// Those of a `Tensor` would be copied to the device at every launch.
pub(super) fn array<R: CubeRuntime>(tensor: CubeTensor<R>) -> ArrayArg<R> {
    into_contiguous(tensor).into_array_arg()
}

/// A contiguous, uninitialized tensor on the device of `like`.
pub(super) fn empty<R: CubeRuntime, const D: usize>(
    like: &CubeTensor<R>,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor<R> {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, Shape::from(shape), dtype)
}

/// A contiguous tensor over the memory of `handle`.
pub(super) fn on_device<R: CubeRuntime>(
    handle: Handle,
    shape: Shape,
    dtype: DType,
    client: &ComputeClient<R>,
    device: &R::Device,
) -> CubeTensor<R> {
    CubeTensor::new_contiguous(client.clone(), device.clone(), shape, handle, dtype)
}

/// `bytes` on the device, copied directly once earlier work is done. They are held
/// until the device is known to have copied them, which CubeCL checks after every 64 of them, or 64 MiB.
/// `ComputeClient::create` of CubeCL 0.10 copies them into fresh pageable memory first, which is three times
/// slower than the method used here.
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

/// The upper and the lower half of the rows, without a copy.
pub(super) fn halves<R: CubeRuntime>(rows: CubeTensor<R>) -> [CubeTensor<R>; 2] {
    let shape = rows.meta.shape();
    let shape = Shape::from([shape[0] / 2, shape[1]]);
    let bytes = (shape.num_elements() * rows.dtype.size()) as u64;
    let handle = rows.handle;
    let halves = [handle.clone().offset_end(bytes), handle.offset_start(bytes)];
    halves.map(|half| on_device(half, shape.clone(), rows.dtype, &rows.client, &rows.device))
}

/// A tensor to be written in place: contiguous and with one owner. Copied otherwise.
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

/// Multiprocessors of the device; a guess if the runtime does not report them.
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
