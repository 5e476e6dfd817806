//! RMS normalisation over the last dimension, computed in f32 whatever the compute dtype is.

use burn::tensor::{DType, Tensor};

use crate::kernel::{FusionBackend, rms_norm};

/// `y = x / sqrt(mean(x^2) + eps) * weight`.
pub struct RmsNorm<B: FusionBackend> {
    weight: Tensor<B, 1>, // [width], f32
    eps: f64,
}

impl<B: FusionBackend> RmsNorm<B> {
    /// `weight` is kept in f32.
    pub fn new(weight: Tensor<B, 1>, eps: f64) -> Self {
        Self {
            weight: weight.cast(DType::F32),
            eps,
        }
    }

    /// The norm with its result multiplied by `factor`.
    pub(super) fn scaled(self, factor: f64) -> Self {
        Self {
            weight: self.weight.mul_scalar(factor),
            eps: self.eps,
        }
    }

    /// # Shapes
    /// - x: `[.., width]`, result: the same, in the dtype of `x`
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        rms_norm(x, &self.weight, self.eps)
    }
}
