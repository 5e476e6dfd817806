//! Row overwrite into a KV buffer: the reference and the Flex version (in place).

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Bool, DType, IndexingUpdateOp, Int, Tensor, TensorMetadata, TensorPrimitive};
use burn_flex::FlexTensor;
use half::{bf16, f16};

use super::flex_tensor::whole;

/// The reference, in plain tensor code: clear the rows, then add the values scattered into zeros.
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
