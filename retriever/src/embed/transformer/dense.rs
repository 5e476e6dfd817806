//! The module `Dense`: one linear layer over the pooled vector.

use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;

use super::files::JsonFile;
use super::layers::Linear;
use super::load::Loader;
use crate::embed::open_error::OpenEmbedderError;

/// `config.json` of the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DenseConfig {
    /// Relative to the sentence-transformers directory.
    pub(super) folder: PathBuf,
    pub(super) in_features: usize,
    pub(super) out_features: usize,
    pub(super) bias: bool,
    pub(super) activation: DenseActivation,
}

/// What follows the linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DenseActivation {
    Identity,
    Tanh,
    Relu,
}

impl DenseConfig {
    pub(super) fn read(dir: &Path, folder: &Path, width: usize) -> Result<Self, OpenEmbedderError> {
        let file = JsonFile::read(dir.join(folder).join("config.json"))?;
        let in_features = file.size("in_features")?;
        if in_features != width {
            return Err(file.refuse(format!(
                "takes vectors of {in_features} numbers, and the module before it makes {width}"
            )));
        }
        for key in ["use_residual", "module_input_name", "module_output_name"] {
            let is_default = match file.get(key) {
                None => true,
                Some(value) => *value == false || *value == "sentence_embedding",
            };
            if !is_default {
                return Err(file.unsupported(format!("{key} of Dense is not supported")));
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            in_features,
            out_features: file.size("out_features")?,
            bias: file.flag("bias")?.unwrap_or(true),
            activation: activation(&file)?,
        })
    }
}

fn activation(file: &JsonFile) -> Result<DenseActivation, OpenEmbedderError> {
    let class = file.text("activation_function")?;
    match class.map(|class| class.rsplit('.').next().unwrap_or(class)) {
        None | Some("Tanh") => Ok(DenseActivation::Tanh),
        Some("Identity") => Ok(DenseActivation::Identity),
        Some("ReLU") => Ok(DenseActivation::Relu),
        Some(other) => Err(file.unsupported(format!(
            "the activation {other} of Dense is not supported; supported are Tanh, Identity and ReLU"
        ))),
    }
}

/// The layer on its device.
pub(super) struct Dense<B: Backend> {
    linear: Linear<B>,
    activation: DenseActivation,
}

impl<B: Backend> Dense<B> {
    pub(super) fn load(
        config: &DenseConfig,
        loader: &Loader<'_, B>,
    ) -> Result<Self, OpenEmbedderError> {
        let (out_features, in_features) = (config.out_features, config.in_features);
        let linear = match config.bias {
            true => loader.linear(&["linear"], out_features, in_features)?,
            false => loader.linear_without_bias("linear", out_features, in_features)?,
        };
        Ok(Self {
            linear,
            activation: config.activation,
        })
    }

    /// # Shapes
    /// `[n_texts, in_features]` to `[n_texts, out_features]`.
    pub(super) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let x = self.linear.forward(x);
        match self.activation {
            DenseActivation::Identity => x,
            DenseActivation::Tanh => x.tanh(),
            DenseActivation::Relu => relu(x),
        }
    }
}
