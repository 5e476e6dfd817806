//! A linear projection with the weight kept as Hugging Face stores it.

use burn::tensor::Tensor;

use crate::kernel::FusionBackend;

/// `y = x W^T + b`.
pub struct Linear<B: FusionBackend> {
    weight: Tensor<B, 2>,       // [out_features, in_features]
    bias: Option<Tensor<B, 1>>, // [out_features]
}

impl<B: FusionBackend> Linear<B> {
    pub fn new(weight: Tensor<B, 2>, bias: Option<Tensor<B, 1>>) -> Self {
        Self { weight, bias }
    }

    /// # Shapes
    /// - x: `[m, in_features]`
    /// - result: `[m, out_features]`
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let y = x.matmul(self.weight.clone().transpose()); // [m, out_features]
        match &self.bias {
            Some(bias) => y + bias.clone().unsqueeze(),
            None => y,
        }
    }
}
