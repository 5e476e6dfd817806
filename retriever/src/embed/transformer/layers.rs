//! The layers that every part of a network is made of, with their weights.

use burn::tensor::backend::Backend;
use burn::tensor::module::linear;
use burn::tensor::{Tensor, TensorPrimitive};

/// `x W + b`.
pub(super) struct Linear<B: Backend> {
    pub(super) weight: Tensor<B, 2>, // [in_features, out_features]
    pub(super) bias: Option<Tensor<B, 1>>,
}

/// Layer norm over the last dimension.
pub(super) struct Norm<B: Backend> {
    pub(super) weight: Tensor<B, 1>,
    pub(super) bias: Tensor<B, 1>,
    pub(super) epsilon: f64,
}

impl<B: Backend> Linear<B> {
    /// # Shapes
    /// `[n, in_features]` to `[n, out_features]`.
    pub(super) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        linear(x, self.weight.clone(), self.bias.clone())
    }
}

impl<B: Backend> Norm<B> {
    /// # Shapes
    /// `[n, width]` to the same.
    pub(super) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let primitive = |x: Tensor<B, 1>| x.into_primitive().tensor();
        let (weight, bias) = (primitive(self.weight.clone()), primitive(self.bias.clone()));
        let x = x.into_primitive().tensor();
        let normed = B::layer_norm(x, weight, Some(bias), self.epsilon);
        Tensor::from_primitive(TensorPrimitive::Float(normed))
    }
}
