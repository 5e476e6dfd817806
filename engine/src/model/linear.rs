//! A linear projection, with its weight in the backend's form.

use burn::tensor::Tensor;

use crate::kernel::{self, FusionBackend};

/// `y = x W^T + b`.
pub struct Linear<B: FusionBackend> {
    weight: B::Weight,          // [out_features, in_features]
    bias: Option<Tensor<B, 1>>, // [out_features]
}

impl<B: FusionBackend> Linear<B> {
    pub fn new(weight: B::Weight, bias: Option<Tensor<B, 1>>) -> Self {
        Self { weight, bias }
    }

    /// The weight, if there is no bias.
    pub(super) fn weight_alone(&self) -> Option<&B::Weight> {
        self.bias.is_none().then_some(&self.weight)
    }

    /// # Shapes
    /// - x: `[m, in_features]`
    /// - result: `[m, out_features]`
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let y = kernel::project(x, &self.weight); // [m, out_features]
        match &self.bias {
            Some(bias) => y + bias.clone().unsqueeze(),
            None => y,
        }
    }

    /// `residual + y`.
    ///
    /// # Shapes
    /// - residual, result: `[m, out_features]`
    /// - x: `[m, in_features]`
    pub fn add_to(&self, residual: Tensor<B, 2>, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match &self.bias {
            Some(_) => kernel::add(residual, self.forward(x)),
            None => kernel::project_add(residual, x, &self.weight),
        }
    }
}
