//! Prompt positions as an index tensor.

use burn::tensor::{DType, Int, Tensor, TensorData};

use crate::kernel::FusionBackend;

/// A one-dimensional `i32` index tensor of prompt positions.
pub(crate) fn row_tensor<B: FusionBackend>(
    rows: &[usize],
    device: &B::Device,
) -> Tensor<B, 1, Int> {
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let n = rows.len();
    Tensor::from_data(TensorData::new(rows, [n]), (device, DType::I32))
}
