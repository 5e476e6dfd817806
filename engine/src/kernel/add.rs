//! The residual addition: the reference, the Flex version (in place) and the CubeCL kernel.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use burn_flex::FlexTensor;

use super::flex::{in_tasks, whole, with_stored_type};
use super::simd::Stored;

/// Values in f32 at a time: they stay in the L1 cache.
const STRIP: usize = 512;

/// Plain tensor code.
pub(super) fn reference<B: Backend>(x: FloatTensor<B>, y: FloatTensor<B>) -> FloatTensor<B> {
    let tensor = |x| Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(x));
    (tensor(x) + tensor(y)).into_primitive().tensor()
}

/// The Flex version, rounded once: in place unless `x` is shared.
pub(super) fn on_flex(x: FlexTensor, y: FlexTensor) -> FlexTensor {
    let (mut x, y) = (whole(x), whole(y));
    with_stored_type!(x.dtype(), E => in_tasks(x.storage_mut::<E>(), y.storage(), add_strips));
    x
}

fn add_strips<E: Stored>(x: &mut [E], y: &[E]) {
    let (mut sums, mut added) = ([0.0; STRIP], [0.0; STRIP]);
    for (x, y) in x.chunks_mut(STRIP).zip(y.chunks(STRIP)) {
        let (sums, added) = (&mut sums[..x.len()], &mut added[..x.len()]);
        E::widen_row(x, sums);
        E::widen_row(y, added);
        sums.iter_mut()
            .zip(added)
            .for_each(|(sum, added)| *sum += *added);
        E::narrow_row(sums, x);
    }
}

#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub(super) mod cube {
    //! The CubeCL kernel and its launcher: one unit per vector of elements, in f32.

    use burn_cubecl::CubeRuntime;
    use burn_cubecl::tensor::CubeTensor;
    use cubecl::prelude::*;

    use crate::kernel::cube::{array, empty, per_element, vector_size};

    #[cube(launch)]
    fn add_kernel<F: Float, N: Size>(
        x: &Array<Vector<F, N>>,
        y: &Array<Vector<F, N>>,
        out: &mut Array<Vector<F, N>>,
        #[define(F)] _dtype: StorageType,
    ) {
        if ABSOLUTE_POS >= out.len() {
            terminate!();
        }
        let sum = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS])
            + Vector::<f32, N>::cast_from(y[ABSOLUTE_POS]);
        out[ABSOLUTE_POS] = Vector::cast_from(sum);
    }

    pub(in crate::kernel) fn launch<R: CubeRuntime>(
        x: CubeTensor<R>,
        y: CubeTensor<R>,
    ) -> CubeTensor<R> {
        let (rows, width, dtype) = (x.meta.shape()[0], x.meta.shape()[1], x.dtype);
        let out = empty(&x, [rows, width], dtype);
        let client = x.client.clone();
        let n = vector_size(width, dtype);
        let (cube_count, cube_dim) = per_element(&client, rows * width / n);
        add_kernel::launch::<R>(
            &client,
            cube_count,
            cube_dim,
            n,
            array(x),
            array(y),
            array(out.clone()),
            dtype.into(),
        );
        out
    }
}
