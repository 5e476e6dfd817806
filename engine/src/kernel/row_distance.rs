//! The deviation of rows: squared L2 distance, summed over heads and dimensions, in f32.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::flex::{dims, floats, from_floats, whole};

/// Partial sums per row: independent chains that vectorise.
const CHAINS: usize = 16;

/// Plain tensor code.
pub(super) fn reference<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    let tensor = |x| Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(x)).cast(DType::F32);
    let (a, b) = (tensor(a), tensor(b));
    let [m, heads, head_dim] = a.dims();
    (a - b)
        .square()
        .reshape([m, heads * head_dim])
        .sum_dim(1)
        .reshape([m])
        .into_primitive()
        .tensor()
}

/// The Flex version: one pass.
pub(super) fn on_flex(a: FlexTensor, b: FlexTensor) -> FlexTensor {
    let [m, heads, head_dim] = dims(&a);
    let width = heads * head_dim;
    let (a, b) = (whole(a), whole(b));
    let (a, b) = (floats(&a), floats(&b));
    let rows = a.par_chunks_exact(width).zip(b.par_chunks_exact(width));
    let distances: Vec<f32> = rows.map(|(a, b)| distance(a, b)).collect();
    from_floats(distances, [m], DType::F32)
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; CHAINS];
    for (a, b) in a.chunks(CHAINS).zip(b.chunks(CHAINS)) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += (a - b) * (a - b);
        }
    }
    sums.iter().sum()
}

#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub(super) mod cube {
    //! The CubeCL kernel and its launcher: one cube per row.

    use burn::tensor::DType;
    use burn_cubecl::CubeRuntime;
    use burn_cubecl::tensor::CubeTensor;
    use cubecl::prelude::*;

    use crate::kernel::cube::{ROW_UNITS, array, empty, per_row, sum_of_row};

    #[cube(launch)]
    fn row_distance_kernel<F: Float, G: Float>(
        a: &Array<F>,         // [rows, width]
        b: &Array<G>,         // [rows, width]
        out: &mut Array<f32>, // [rows]
        #[define(F)] _a_dtype: StorageType,
        #[define(G)] _b_dtype: StorageType,
    ) {
        let row = CUBE_POS;
        if row >= out.len() {
            terminate!();
        }
        let width = a.len() / out.len();
        let first = row * width;
        let mut squares = 0.0f32;
        for i in range_stepped(UNIT_POS as usize, width, ROW_UNITS) {
            let difference = f32::cast_from(a[first + i]) - f32::cast_from(b[first + i]);
            squares += difference * difference;
        }
        let sum = sum_of_row(squares);
        if UNIT_POS == 0 {
            out[row] = sum;
        }
    }

    pub(in crate::kernel) fn launch<R: CubeRuntime>(
        a: CubeTensor<R>,
        b: CubeTensor<R>,
    ) -> CubeTensor<R> {
        let rows = a.meta.shape()[0];
        let out = empty(&a, [rows], DType::F32);
        if rows == 0 {
            return out;
        }
        let (client, a_dtype, b_dtype) = (a.client.clone(), a.dtype, b.dtype);
        let (cube_count, cube_dim) = per_row(&client, rows);
        row_distance_kernel::launch::<R>(
            &client,
            cube_count,
            cube_dim,
            array(a),
            array(b),
            array(out.clone()),
            a_dtype.into(),
            b_dtype.into(),
        );
        out
    }
}
