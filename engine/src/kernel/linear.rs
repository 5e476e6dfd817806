//! Projections: `y = x W^T`, and rows of a weight as embeddings.

use std::sync::Arc;

use burn::tensor::DType;
use burn_flex::FlexTensor;
use half::{bf16, f16};

use super::flex_tensor::{dims, floats, from_floats, whole};
use super::panel::{Packed, multiply};
use super::simd::Isa;

/// A weight matrix as the CPU multiplies with it.
#[derive(Clone)]
pub struct FlexWeight(Matrix);

/// A packed matrix in its own dtype.
#[derive(Clone)]
enum Matrix {
    F32(Arc<Packed<f32>>),
    F16(Arc<Packed<f16>>),
    Bf16(Arc<Packed<bf16>>),
}

impl FlexWeight {
    /// Packs `[n, k]`.
    pub(super) fn new(weight: FlexTensor) -> Self {
        let shape = dims(&weight);
        let weight = whole(weight);
        let isa = Isa::in_use();
        Self(match weight.dtype() {
            DType::F32 => Matrix::F32(Arc::new(Packed::new(weight.storage(), shape, isa))),
            DType::F16 => Matrix::F16(Arc::new(Packed::new(weight.storage(), shape, isa))),
            DType::BF16 => Matrix::Bf16(Arc::new(Packed::new(weight.storage(), shape, isa))),
            other => panic!("linear: weights are f32, f16 or bf16, not {other:?}"),
        })
    }

    fn shape(&self) -> [usize; 2] {
        match &self.0 {
            Matrix::F32(packed) => packed.shape(),
            Matrix::F16(packed) => packed.shape(),
            Matrix::Bf16(packed) => packed.shape(),
        }
    }

    fn dtype(&self) -> DType {
        match &self.0 {
            Matrix::F32(_) => DType::F32,
            Matrix::F16(_) => DType::F16,
            Matrix::Bf16(_) => DType::BF16,
        }
    }

    /// `[m, k]` to `[m, n]`, summed in f32, in the dtype of `x`.
    pub(super) fn project(&self, x: FlexTensor) -> FlexTensor {
        let ([m, _], dtype) = (dims::<2>(&x), x.dtype());
        let x = whole(x);
        let x = floats(&x);
        let y = match &self.0 {
            Matrix::F32(packed) => multiply(&x, packed),
            Matrix::F16(packed) => multiply(&x, packed),
            Matrix::Bf16(packed) => multiply(&x, packed),
        };
        from_floats(y, [m, self.shape()[0]], dtype)
    }

    /// Rows of the matrix: `[ids, k]`.
    pub(super) fn rows(&self, ids: &[u32]) -> FlexTensor {
        let mut out = Vec::with_capacity(ids.len() * self.shape()[1]);
        for &id in ids {
            match &self.0 {
                Matrix::F32(packed) => out.extend(packed.row(id as usize)),
                Matrix::F16(packed) => out.extend(packed.row(id as usize)),
                Matrix::Bf16(packed) => out.extend(packed.row(id as usize)),
            }
        }
        from_floats(out, [ids.len(), self.shape()[1]], self.dtype())
    }
}
