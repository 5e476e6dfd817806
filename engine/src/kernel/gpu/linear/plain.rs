//! Plain tensor code: products are the backend's own.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Int, Tensor, TensorData, TensorPrimitive};

/// Plain tensor code: `[m, k]` times the transpose of `[n, k]`.
pub(in crate::kernel::gpu) fn project<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
) -> FloatTensor<B> {
    let tensor = |x| Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(x));
    let y = tensor(x).matmul(tensor(weight).transpose()); // [m, n]
    y.into_primitive().tensor()
}

/// Plain tensor code: rows of `[n, k]`.
pub(in crate::kernel::gpu) fn rows<B: Backend>(
    weight: FloatTensor<B>,
    ids: &[u32],
) -> FloatTensor<B> {
    let weight = Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(weight));
    let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let shape = [ids.len()];
    let data = TensorData::new(ids, shape);
    let ids = Tensor::<B, 1, Int>::from_data(data, (&weight.device(), DType::I32));
    weight.select(0, ids).into_primitive().tensor()
}
