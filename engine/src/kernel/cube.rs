//! The operations on CubeCL backends: CUDA and Vulkan.

use burn_cubecl::element::BoolElement;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime, FloatElement, IntElement};

use super::{FusionBackend, linear, overwrite_rows};

impl<R, F, I, BT> FusionBackend for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    type Weight = CubeTensor<R>;

    fn weight(matrix: CubeTensor<R>) -> CubeTensor<R> {
        matrix
    }

    fn project(x: CubeTensor<R>, weight: &CubeTensor<R>) -> CubeTensor<R> {
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
}
