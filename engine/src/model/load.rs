//! Builds a [`Decoder`] from Hugging Face weight files, or from a seed for benchmarks.
//! [`LayerSpec`] describes the parts of a layer, [`TensorNames`] the names of its tensors.

use burn::tensor::{DType, Distribution, Tensor, TensorData};

use super::decoder::Decoder;
use super::layer::DecoderLayer;
use super::linear::Linear;
use super::norm::RmsNorm;
use super::tensor_names::{LayerNames, TensorNames};
use crate::config::{LayerSpec, ModelConfig, NormWeights, Norms, QkNorm};
use crate::error::EngineError;
use crate::kernel::{FusionBackend, weight};
use crate::weights::WeightFiles;

/// Where a model's tensors come from.
pub enum WeightSource<'a> {
    /// The safetensors files of a model directory.
    Files(&'a WeightFiles),
    /// Random values from this seed, to benchmark any shape without weights.
    Random { seed: u64 },
}

/// Standard deviation of random weights, as transformers initialises them.
const RANDOM_STD: f64 = 0.02;

impl<B: FusionBackend> Decoder<B> {
    /// Loads all tensors onto `device` in `dtype`.
    ///
    /// # Errors
    /// A missing tensor, a wrong shape or non-finite values, naming file and tensor.
    pub fn load(
        config: &ModelConfig,
        source: &WeightSource<'_>,
        dtype: DType,
        device: &B::Device,
    ) -> Result<Self, EngineError> {
        if let WeightSource::Random { seed } = source {
            B::seed(device, *seed);
        }
        let loader = Loader::<B> {
            config,
            source,
            dtype,
            device,
        };
        let names = TensorNames::of(config.architecture);
        let table = [config.vocab_size, config.hidden_size];
        let embed_tokens = loader.matrix(&format!("{}.weight", names.embed_tokens), table)?;
        let embed_tokens = weight(embed_tokens);
        let lm_head = match config.tie_word_embeddings {
            true => Linear::new(embed_tokens.clone(), None),
            false => loader.linear(names.lm_head, table, false)?,
        };
        let layers = config.layers.iter().enumerate();
        let layers = layers.map(|(layer_idx, spec)| loader.layer(spec, names.layer.at(layer_idx)));
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            norm: loader.norm(names.final_norm, config.hidden_size)?,
            config: config.clone(),
            dtype,
            embed_tokens,
            lm_head,
            device: device.clone(),
        })
    }
}

/// The factor on queries that leaves scores right when kernels divide them by the square root of `head_dim`.
fn query_scale(spec: &LayerSpec, config: &ModelConfig) -> f64 {
    let wanted = spec.query_pre_attn_scalar.unwrap_or(config.head_dim);
    (config.head_dim as f64 / wanted as f64).sqrt()
}

struct Loader<'a, B: FusionBackend> {
    config: &'a ModelConfig,
    source: &'a WeightSource<'a>,
    dtype: DType,
    device: &'a B::Device,
}

impl<B: FusionBackend> Loader<'_, B> {
    fn layer(
        &self,
        spec: &LayerSpec,
        names: LayerNames<String>,
    ) -> Result<DecoderLayer<B>, EngineError> {
        let c = self.config;
        let (hidden, mlp, biases) = (c.hidden_size, c.intermediate_size, spec.biases);
        let q_width = c.num_attention_heads * c.head_dim;
        let kv_width = c.num_key_value_heads * c.head_dim;
        let norm = |name: &str| self.norm(name, hidden);
        let output_norm = |name: &str| match spec.norms {
            Norms::Before => Ok(None),
            Norms::BeforeAndAfter => norm(name).map(Some),
        };
        let (q_norm, k_norm) = match spec.qk_norm {
            QkNorm::None => (None, None),
            QkNorm::PerHead => {
                let q_norm = self.norm(&names.q_norm, c.head_dim)?;
                let k_norm = self.norm(&names.k_norm, c.head_dim)?;
                (Some(q_norm.scaled(query_scale(spec, c))), Some(k_norm))
            }
        };
        Ok(DecoderLayer {
            attention_norm: norm(&names.attention_norm)?,
            attention_output_norm: output_norm(&names.attention_output_norm)?,
            q_proj: self.linear(&names.q_proj, [q_width, hidden], biases.qkv)?,
            k_proj: self.linear(&names.k_proj, [kv_width, hidden], biases.qkv)?,
            v_proj: self.linear(&names.v_proj, [kv_width, hidden], biases.qkv)?,
            o_proj: self.linear(&names.o_proj, [hidden, q_width], biases.attention_output)?,
            q_norm,
            k_norm,
            mlp_norm: norm(&names.mlp_norm)?,
            mlp_output_norm: output_norm(&names.mlp_output_norm)?,
            gate_proj: self.linear(&names.gate_proj, [mlp, hidden], biases.mlp)?,
            up_proj: self.linear(&names.up_proj, [mlp, hidden], biases.mlp)?,
            down_proj: self.linear(&names.down_proj, [hidden, mlp], biases.mlp)?,
            head_dim: c.head_dim,
            spec: spec.clone(),
        })
    }

    fn linear(&self, name: &str, shape: [usize; 2], bias: bool) -> Result<Linear<B>, EngineError> {
        let matrix = self.matrix(&format!("{name}.weight"), shape)?;
        let bias = match bias {
            true => Some(self.tensor(&format!("{name}.bias"), [shape[0]], self.dtype)?),
            false => None,
        };
        Ok(Linear::new(weight(matrix), bias))
    }

    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Tensor<B, 2>, EngineError> {
        self.tensor(name, shape, self.dtype)
    }

    fn norm(&self, name: &str, width: usize) -> Result<RmsNorm<B>, EngineError> {
        let weight = match (self.source, self.config.norm_weights) {
            (WeightSource::Files(_), stored) => {
                let weight = self.tensor(&format!("{name}.weight"), [width], DType::F32)?;
                match stored {
                    NormWeights::Factor => weight,
                    NormWeights::OffsetFromOne => weight.add_scalar(1.0),
                }
            }
            (WeightSource::Random { .. }, _) => Tensor::ones([width], (self.device, DType::F32)),
        };
        Ok(RmsNorm::new(weight, self.config.rms_norm_eps))
    }

    fn tensor<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        dtype: DType,
    ) -> Result<Tensor<B, D>, EngineError> {
        let options = (self.device, dtype);
        let files = match self.source {
            WeightSource::Files(files) => files,
            WeightSource::Random { .. } => {
                let normal = Distribution::Normal(0.0, RANDOM_STD);
                return Ok(Tensor::random(shape, normal, options));
            }
        };
        let weight = files.tensor(name, &shape)?;
        let data = match dtype {
            DType::F16 => TensorData::new(weight.to_f16()?, shape),
            DType::BF16 => TensorData::new(weight.to_bf16()?, shape),
            _ => TensorData::new(weight.to_f32(), shape),
        };
        Ok(Tensor::from_data(data, options))
    }
}
