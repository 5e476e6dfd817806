//! Builds a [`Decoder`] from Hugging Face weight files, or from a seed for benchmarks.
//!
//! | tensor | shape |
//! |---|---|
//! | `model.embed_tokens.weight` | `[vocab_size, hidden_size]` |
//! | `model.layers.{l}.self_attn.{q,k,v}_proj.{weight,bias}` | `[heads * head_dim, hidden_size]` |
//! | `model.layers.{l}.self_attn.o_proj.{weight,bias}` (no bias in Qwen2) | `[hidden_size, heads * head_dim]` |
//! | `model.layers.{l}.self_attn.{q,k}_norm.weight` (Qwen3) | `[head_dim]` |
//! | `model.layers.{l}.mlp.{gate,up}_proj.{weight,bias}` | `[intermediate_size, hidden_size]` |
//! | `model.layers.{l}.mlp.down_proj.{weight,bias}` | `[hidden_size, intermediate_size]` |
//! | `model.layers.{l}.{input,post_attention}_layernorm.weight`, `model.norm.weight` | `[hidden_size]` |
//! | `lm_head.weight` (untied) | `[vocab_size, hidden_size]` |

use burn::tensor::{DType, Distribution, Tensor, TensorData};

use super::{Decoder, DecoderLayer, Linear, RmsNorm};
use crate::config::{Architecture, ModelConfig};
use crate::error::EngineError;
use crate::kernel::{FusionBackend, weight};
use crate::weights::WeightFiles;

/// Where a model's tensors come from.
pub enum WeightSource<'a> {
    /// The safetensors files of a model directory.
    Files(&'a WeightFiles),
    /// Random values of this seed: any shape without weights, for benchmarks.
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
        let embed_tokens = weight(loader.matrix(
            "model.embed_tokens.weight",
            [config.vocab_size, config.hidden_size],
        )?);
        let lm_head = if config.tie_word_embeddings {
            Linear::new(embed_tokens.clone(), None)
        } else {
            loader.linear("lm_head", [config.vocab_size, config.hidden_size], false)?
        };
        let layers = (0..config.num_hidden_layers).map(|layer| loader.layer(layer));
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            norm: loader.norm("model.norm", config.hidden_size)?,
            config: config.clone(),
            dtype,
            embed_tokens,
            lm_head,
            device: device.clone(),
        })
    }
}

struct Loader<'a, B: FusionBackend> {
    config: &'a ModelConfig,
    source: &'a WeightSource<'a>,
    dtype: DType,
    device: &'a B::Device,
}

impl<B: FusionBackend> Loader<'_, B> {
    fn layer(&self, layer_idx: usize) -> Result<DecoderLayer<B>, EngineError> {
        let c = self.config;
        let (hidden, mlp) = (c.hidden_size, c.intermediate_size);
        let q_width = c.num_attention_heads * c.head_dim;
        let kv_width = c.num_key_value_heads * c.head_dim;
        let name = |part: &str| format!("model.layers.{layer_idx}.{part}");
        let head_norm = |part: &str| match c.architecture {
            Architecture::Llama | Architecture::Mistral | Architecture::Qwen2 => Ok(None),
            Architecture::Qwen3 => self.norm(&name(part), c.head_dim).map(Some),
        };
        Ok(DecoderLayer {
            input_layernorm: self.norm(&name("input_layernorm"), hidden)?,
            q_proj: self.linear(
                &name("self_attn.q_proj"),
                [q_width, hidden],
                c.attention_bias,
            )?,
            k_proj: self.linear(
                &name("self_attn.k_proj"),
                [kv_width, hidden],
                c.attention_bias,
            )?,
            v_proj: self.linear(
                &name("self_attn.v_proj"),
                [kv_width, hidden],
                c.attention_bias,
            )?,
            o_proj: self.linear(
                &name("self_attn.o_proj"),
                [hidden, q_width],
                c.attention_output_bias(),
            )?,
            q_norm: head_norm("self_attn.q_norm")?,
            k_norm: head_norm("self_attn.k_norm")?,
            post_attention_layernorm: self.norm(&name("post_attention_layernorm"), hidden)?,
            gate_proj: self.linear(&name("mlp.gate_proj"), [mlp, hidden], c.mlp_bias)?,
            up_proj: self.linear(&name("mlp.up_proj"), [mlp, hidden], c.mlp_bias)?,
            down_proj: self.linear(&name("mlp.down_proj"), [hidden, mlp], c.mlp_bias)?,
            sliding_window: c.sliding_windows[layer_idx],
            head_dim: c.head_dim,
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
        let weight = match self.source {
            WeightSource::Files(_) => {
                self.tensor(&format!("{name}.weight"), [width], DType::F32)?
            }
            WeightSource::Random { .. } => Tensor::ones([width], (self.device, DType::F32)),
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
