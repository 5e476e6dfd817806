//! The operations on CubeCL backends: CUDA and Vulkan.

use burn_cubecl::element::BoolElement;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime, FloatElement, IntElement};

use super::{FusionBackend, overwrite_rows};

impl<R, F, I, BT> FusionBackend for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn overwrite_rows(
        buffer: CubeTensor<R>,
        rows: CubeTensor<R>,
        values: CubeTensor<R>,
    ) -> CubeTensor<R> {
        overwrite_rows::cube::launch(buffer, rows, values)
    }
}
