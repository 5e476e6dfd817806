//! Weights from `model.safetensors` to tensors on a device. Shapes, element types and values are
//! checked: a NaN in a weight would only show as texts that are never found.

use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::files::read;
use super::layers::{Linear, Norm};
use crate::embed::open_error::OpenEmbedderError;

/// The largest weight file that is read, bytes: about four times bge-m3 in f32.
const MAX_WEIGHT_BYTES: u64 = 9 << 30;
const WEIGHTS: &str = "model.safetensors";

/// One weight file in memory.
pub(super) struct WeightFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl WeightFile {
    /// Reads `model.safetensors` of a folder.
    pub(super) fn read(dir: &Path) -> Result<Self, OpenEmbedderError> {
        let path = dir.join(WEIGHTS);
        if !path.exists() {
            return Err(missing(dir, &path));
        }
        let bytes = read(&path, MAX_WEIGHT_BYTES)?;
        Ok(Self { path, bytes })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A loader onto `device`. `prefixes` are what names of tensors may begin with, the usual first.
    pub(super) fn loader<'f, B: Backend>(
        &'f self,
        prefixes: &'static [&'static str],
        device: &'f B::Device,
    ) -> Result<Loader<'f, B>, OpenEmbedderError> {
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(|error| {
            let message = format!("is not a whole safetensors file: {error}; fetch it again");
            OpenEmbedderError::file(&self.path, message)
        })?;
        Ok(Loader {
            path: &self.path,
            tensors,
            prefixes,
            device,
        })
    }
}

fn missing(dir: &Path, path: &Path) -> OpenEmbedderError {
    let there = |name: &str| dir.join(name).exists();
    let message = if there("model.safetensors.index.json") {
        "is missing: the weights are in several files; write them as one with \
         `SentenceTransformer(DIR).save(NEW_DIR)` in Python"
    } else if there("pytorch_model.bin") {
        "is missing, and pytorch_model.bin is not read, because loading it can run code; convert it \
         with `SentenceTransformer(DIR).save(NEW_DIR)` in Python"
    } else {
        "is missing; fetch the whole model directory"
    };
    OpenEmbedderError::file(path, message)
}

/// Reads tensors of one file.
pub(super) struct Loader<'f, B: Backend> {
    path: &'f Path,
    tensors: SafeTensors<'f>,
    prefixes: &'static [&'static str],
    device: &'f B::Device,
}

impl<B: Backend> Loader<'_, B> {
    /// The linear layers `names`, side by side, with their biases.
    ///
    /// # Shapes
    /// Each weight is stored as `[out_features, in_features]`.
    pub(super) fn linear(
        &self,
        names: &[impl AsRef<str>],
        out_features: usize,
        in_features: usize,
    ) -> Result<Linear<B>, OpenEmbedderError> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for name in names {
            let name = name.as_ref();
            weights.extend(self.floats(&format!("{name}.weight"), &[out_features, in_features])?);
            biases.extend(self.floats(&format!("{name}.bias"), &[out_features])?);
        }
        let width = out_features * names.len();
        let bias = Tensor::from_data(TensorData::new(biases, [width]), self.device);
        Ok(Linear {
            weight: self.transposed(&weights, width, in_features),
            bias: Some(bias),
        })
    }

    pub(super) fn linear_without_bias(
        &self,
        name: &str,
        out_features: usize,
        in_features: usize,
    ) -> Result<Linear<B>, OpenEmbedderError> {
        let weight = self.floats(&format!("{name}.weight"), &[out_features, in_features])?;
        Ok(Linear {
            weight: self.transposed(&weight, out_features, in_features),
            bias: None,
        })
    }

    /// A layer norm; older files call weight and bias `gamma` and `beta`.
    pub(super) fn norm(
        &self,
        name: &str,
        width: usize,
        epsilon: f64,
    ) -> Result<Norm<B>, OpenEmbedderError> {
        let part = |new: &str, old: &str| {
            let (new, old) = (format!("{name}.{new}"), format!("{name}.{old}"));
            let is_old = self.find(&new).is_none() && self.find(&old).is_some();
            let values = self.floats(if is_old { &old } else { &new }, &[width])?;
            Ok(Tensor::from_data(
                TensorData::new(values, [width]),
                self.device,
            ))
        };
        Ok(Norm {
            weight: part("weight", "gamma")?,
            bias: part("bias", "beta")?,
            epsilon,
        })
    }

    /// A table of vectors, as stored: `[rows, width]`.
    pub(super) fn table(
        &self,
        name: &str,
        rows: usize,
        width: usize,
    ) -> Result<Tensor<B, 2>, OpenEmbedderError> {
        let values = self.floats(name, &[rows, width])?;
        let data = TensorData::new(values, [rows, width]);
        Ok(Tensor::from_data(data, self.device))
    }

    /// `[in_features, out_features]`, so that the product reads rows one after the other.
    fn transposed(&self, weight: &[f32], out_features: usize, in_features: usize) -> Tensor<B, 2> {
        let column = |at: usize| weight[at..].iter().step_by(in_features).copied();
        let values: Vec<f32> = (0..in_features).flat_map(column).collect();
        let data = TensorData::new(values, [in_features, out_features]);
        Tensor::from_data(data, self.device)
    }

    fn find(&self, name: &str) -> Option<safetensors::tensor::TensorView<'_>> {
        let named = |prefix: &&str| self.tensors.tensor(&format!("{prefix}{name}")).ok();
        self.prefixes.iter().find_map(named)
    }

    /// The values of a tensor, which must have this shape.
    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, OpenEmbedderError> {
        let refuse = |what: String| OpenEmbedderError::file(self.path, what);
        let Some(tensor) = self.find(name) else {
            return Err(refuse(format!(
                "has no tensor {name}; do weights and config.json belong together?"
            )));
        };
        if tensor.shape() != shape {
            let found = tensor.shape();
            return Err(refuse(format!(
                "has tensor {name} with shape {found:?}, and config.json asks for {shape:?}"
            )));
        }
        let values = match tensor.dtype() {
            Dtype::F32 => widened(tensor.data(), f32::from_le_bytes),
            Dtype::F16 => widened(tensor.data(), |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => widened(tensor.data(), |bytes| bf16::from_le_bytes(bytes).to_f32()),
            other => {
                return Err(refuse(format!(
                    "has tensor {name} in {other}; supported are F32, F16 and BF16"
                )));
            }
        };
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(at) => Err(refuse(format!(
                "has a NaN or an infinity in tensor {name} (element {at}); the file is damaged, or \
                 its training failed"
            ))),
        }
    }
}

/// The numbers in little-endian bytes; the header of the file says that there are whole ones.
fn widened<const N: usize>(data: &[u8], widen: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (numbers, _) = data.as_chunks::<N>();
    numbers.iter().map(|bytes| widen(*bytes)).collect()
}
