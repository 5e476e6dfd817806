//! The keys that rows see, on the device.

use std::ops::Range;

use burn::tensor::{Bytes, DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use crate::kernel::gpu::launch::on_device;

/// Starts, then ends, on the device of `like`: `[2, m]`.
pub(super) fn ranges<R: CubeRuntime>(
    visible: &[Range<usize>],
    like: &CubeTensor<R>,
) -> CubeTensor<R> {
    let starts = visible.iter().map(|range| range.start as i32);
    let ends = visible.iter().map(|range| range.end as i32);
    let ranges: Vec<i32> = starts.chain(ends).collect();
    let handle = like.client.create(Bytes::from_elems(ranges));
    let shape = Shape::from([2, visible.len()]);
    on_device(handle, shape, DType::I32, &like.client, &like.device)
}
