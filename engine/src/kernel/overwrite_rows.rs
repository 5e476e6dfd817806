//! Row overwrite into a KV buffer: the reference, the Flex version (in place) and the CubeCL kernel.

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Bool, DType, IndexingUpdateOp, Int, Tensor, TensorMetadata, TensorPrimitive};
use burn_flex::FlexTensor;
use half::{bf16, f16};

use super::flex::whole;

/// Plain tensor code: clear the rows, then add the values scattered into zeros.
pub(super) fn reference<B: Backend>(
    buffer: FloatTensor<B>,
    rows: IntTensor<B>,
    values: FloatTensor<B>,
) -> FloatTensor<B> {
    let buffer = Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(buffer));
    let values = Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(values));
    let rows = Tensor::<B, 1, Int>::from_primitive(rows);

    let scattered =
        buffer
            .zeros_like()
            .select_assign(0, rows.clone(), values.clone(), IndexingUpdateOp::Add);
    let touched: Tensor<B, 3, Bool> = buffer
        .zeros_like()
        .select_assign(0, rows, values.ones_like(), IndexingUpdateOp::Add)
        .greater_elem(0.5); // [n_rows, heads, head_dim]
    buffer
        .mask_where(touched, scattered)
        .into_primitive()
        .tensor()
}

/// The Flex version: in place unless the buffer is shared.
pub(super) fn on_flex(buffer: FlexTensor, rows: FlexTensor, values: FlexTensor) -> FlexTensor {
    let mut buffer = whole(buffer);
    let (rows, values) = (whole(rows), whole(values));
    let rows: &[i32] = rows.storage();
    match buffer.dtype() {
        DType::F32 => copy_rows::<f32>(&mut buffer, rows, &values),
        DType::F16 => copy_rows::<f16>(&mut buffer, rows, &values),
        DType::BF16 => copy_rows::<bf16>(&mut buffer, rows, &values),
        other => panic!("overwrite_rows: KV buffers are f32, f16 or bf16, not {other:?}"),
    }
    buffer
}

/// Copies each row of `values` to its place; `buffer` is copied first only if it is shared.
fn copy_rows<E: burn::tensor::Element + bytemuck::Pod>(
    buffer: &mut FlexTensor,
    rows: &[i32],
    values: &FlexTensor,
) {
    let width = values.shape()[1] * values.shape()[2];
    let values: &[E] = values.storage();
    let out: &mut [E] = buffer.storage_mut();
    for (&row, value) in rows.iter().zip(values.chunks_exact(width)) {
        let start = row as usize * width;
        out[start..start + width].copy_from_slice(value);
    }
}

#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub(super) mod cube {
    //! The CubeCL kernel and its launcher: one unit per vector of `values`.

    use burn_cubecl::CubeRuntime;
    use burn_cubecl::tensor::CubeTensor;
    use cubecl::prelude::*;

    use crate::kernel::cube::{array, per_element, vector_size, writable};

    #[cube(launch)]
    fn overwrite_rows_kernel<F: Float, N: Size>(
        buffer: &mut Array<Vector<F, N>>, // [n_rows, width]
        rows: &Array<i32>,                // [m]
        values: &Array<Vector<F, N>>,     // [m, width]
        width: usize,
        #[define(F)] _dtype: StorageType,
    ) {
        if ABSOLUTE_POS >= values.len() {
            terminate!();
        }
        let row = usize::cast_from(rows[ABSOLUTE_POS / width]);
        buffer[row * width + ABSOLUTE_POS % width] = values[ABSOLUTE_POS];
    }

    pub(in crate::kernel) fn launch<R: CubeRuntime>(
        buffer: CubeTensor<R>,
        rows: CubeTensor<R>,
        values: CubeTensor<R>,
    ) -> CubeTensor<R> {
        let buffer = writable(buffer);
        let shape = values.meta.shape();
        let (m, width) = (shape[0], shape[1] * shape[2]);
        if m * width == 0 {
            return buffer;
        }
        let (client, dtype) = (buffer.client.clone(), buffer.dtype);
        let n = vector_size(width, dtype);
        let (cube_count, cube_dim) = per_element(&client, m * width / n);
        overwrite_rows_kernel::launch::<R>(
            &client,
            cube_count,
            cube_dim,
            n,
            array(buffer.clone()),
            array(rows),
            array(values),
            width / n,
            dtype.into(),
        );
        buffer
    }
}
