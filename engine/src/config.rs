//! `config.json` of a Hugging Face model as a checked [`ModelConfig`]. Both layouts are read:
//! transformers 4 (`rope_theta`, `rope_scaling`, `torch_dtype`) and 5 (`rope_parameters`, `dtype`,
//! `layer_types`). A config that the engine cannot run exactly is refused with an error that names the field.

mod architecture;
pub(crate) mod fields;
mod layer_spec;
mod limits;
mod rope;
mod windows;

pub use architecture::Architecture;
pub use layer_spec::{Activation, Biases, LayerSpec, Norms, QkNorm};
pub use rope::{RopeConfig, RopeScaling, attention_factor, inv_freq};

use std::path::Path;

use serde_json::Value;

use self::architecture::{Defaults, architecture};
use self::fields::Fields;
use self::layer_spec::layer_specs;
use self::limits::{
    MAX_HEAD_DIM, MAX_HEADS, MAX_HIDDEN_SIZE, MAX_INTERMEDIATE_SIZE, MAX_LAYERS, MAX_PARAMETERS,
    MAX_POSITIONS, MAX_VOCAB_SIZE, check_size,
};
use crate::error::EngineError;
use crate::model_files::source::ModelSource;

/// A model's shape and constants under their Hugging Face names.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    pub architecture: Architecture,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// Divides `num_attention_heads`; each K/V head serves that many query heads.
    pub num_key_value_heads: usize,
    /// Even; may differ from `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub norm_weights: NormWeights,
    /// Factor on the embeddings of tokens, if any, rounded to the compute dtype.
    pub embed_scale: Option<f64>,
    pub tie_word_embeddings: bool,
    /// The RoPE settings that layers choose from.
    pub ropes: Vec<RopeConfig>,
    /// One entry per layer.
    pub layers: Vec<LayerSpec>,
    pub bos_token_id: Option<u32>,
    /// Tokens that end a generation; `generation_config.json` may name more.
    pub eos_token_ids: Vec<u32>,
    /// The dtype the weights are said to be stored in, for information only.
    pub weights_dtype: Option<String>,
}

/// How the weights of RMS norms are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormWeights {
    /// The factor itself.
    Factor,
    /// The factor less 1.
    OffsetFromOne,
}

impl ModelConfig {
    /// Reads `config.json` in the model directory `dir`, or the metadata of the GGUF file `dir`.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] when the file is missing, not JSON or not GGUF, else as
    /// [`Self::from_json`].
    pub fn from_dir(dir: &Path) -> Result<Self, EngineError> {
        Self::from_source(&ModelSource::open(dir)?)
    }

    /// As [`ModelConfig::from_dir`], from an opened model.
    pub(crate) fn from_source(source: &ModelSource) -> Result<Self, EngineError> {
        let file = source.config()?;
        Self::from_json(&file.value, &file.path).map_err(|error| source.in_its_terms(error))
    }

    /// Reads a parsed `config.json`; `path` is only named in errors.
    ///
    /// # Errors
    /// [`EngineError::UnsupportedModel`] naming the first field that is missing, out of range or
    /// asks for something the engine does not implement.
    pub fn from_json(value: &Value, path: &Path) -> Result<Self, EngineError> {
        let fields = Fields::root(value, path)?;
        let architecture = architecture(fields)?;
        refuse_quantized(fields)?;
        if architecture == Architecture::Gemma3 {
            refuse_gemma3_options(fields)?;
        }
        let config = Self::from_fields(fields, architecture)?;
        config.check(fields)?;
        if fields.has_key("eos_token_id") {
            fields.check_rows("eos_token_id", &config.eos_token_ids, config.vocab_size)?;
        }
        Ok(config)
    }

    /// Number of weights of the network, saturating; biases and per-head norms are not counted.
    #[must_use]
    pub fn n_parameters(&self) -> u64 {
        let [vocab, hidden, intermediate] =
            [self.vocab_size, self.hidden_size, self.intermediate_size].map(|n| n as u64);
        let q = (self.num_attention_heads as u64).saturating_mul(self.head_dim as u64);
        let kv = (self.num_key_value_heads as u64).saturating_mul(self.head_dim as u64);
        let attention = hidden
            .saturating_mul(q.saturating_add(kv))
            .saturating_mul(2);
        let mlp = hidden.saturating_mul(intermediate).saturating_mul(3);
        let has_four = |layer: &LayerSpec| layer.norms == Norms::BeforeAndAfter;
        let norms = if self.layers.iter().any(has_four) {
            4
        } else {
            2
        };
        let layer = attention
            .saturating_add(mlp)
            .saturating_add(hidden.saturating_mul(norms));
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        layer
            .saturating_mul(self.num_hidden_layers as u64)
            .saturating_add(vocab.saturating_mul(hidden).saturating_mul(tables))
            .saturating_add(hidden)
    }

    fn from_fields(fields: Fields<'_>, architecture: Architecture) -> Result<Self, EngineError> {
        let defaults = architecture.defaults();
        let size = |name| -> Result<usize, EngineError> {
            fields
                .usize(name)?
                .ok_or_else(|| fields.refuse(name, "is missing"))
        };
        let hidden_size = size("hidden_size")?;
        let num_attention_heads = size("num_attention_heads")?;
        let num_hidden_layers = size("num_hidden_layers")?;
        let max_position_embeddings = fields
            .usize("max_position_embeddings")?
            .unwrap_or(defaults.max_position_embeddings);
        Ok(Self {
            architecture,
            vocab_size: size("vocab_size")?,
            hidden_size,
            intermediate_size: size("intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: kv_heads(fields, &defaults, num_attention_heads)?,
            head_dim: head_dim(fields, &defaults, hidden_size, num_attention_heads)?,
            max_position_embeddings,
            rms_norm_eps: fields.f64("rms_norm_eps")?.unwrap_or(1e-6),
            norm_weights: match architecture {
                Architecture::Gemma3 => NormWeights::OffsetFromOne,
                _ => NormWeights::Factor,
            },
            embed_scale: (architecture == Architecture::Gemma3)
                .then(|| (hidden_size as f64).sqrt()),
            tie_word_embeddings: fields
                .bool("tie_word_embeddings")?
                .unwrap_or(defaults.tie_word_embeddings),
            ropes: rope::settings(fields, architecture, max_position_embeddings)?,
            layers: layer_specs(fields, architecture, num_hidden_layers)?,
            // For information only, like the dtype: the tokenizer's files decide, so no value makes the engine
            // refuse a model (some files have -1 for "none").
            bos_token_id: match fields.has_key("bos_token_id") {
                true => fields.token_id("bos_token_id").unwrap_or_default(),
                false => defaults.bos_token_id,
            },
            eos_token_ids: match fields.has_key("eos_token_id") {
                true => fields.token_ids("eos_token_id")?.unwrap_or_default(),
                false => defaults.eos_token_id.into_iter().collect(),
            },
            weights_dtype: weights_dtype(fields),
        })
    }

    fn check(&self, fields: Fields<'_>) -> Result<(), EngineError> {
        let sizes = [
            ("vocab_size", self.vocab_size, MAX_VOCAB_SIZE),
            ("hidden_size", self.hidden_size, MAX_HIDDEN_SIZE),
            (
                "intermediate_size",
                self.intermediate_size,
                MAX_INTERMEDIATE_SIZE,
            ),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_HEADS),
            ("num_key_value_heads", self.num_key_value_heads, MAX_HEADS),
            ("head_dim", self.head_dim, MAX_HEAD_DIM),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                MAX_POSITIONS,
            ),
        ];
        for (name, size, limit) in sizes {
            check_size(fields, name, size, limit)?;
        }
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return Err(fields.refuse(
                "num_key_value_heads",
                format!(
                    "is {}, which does not divide num_attention_heads ({})",
                    self.num_key_value_heads, self.num_attention_heads
                ),
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            let message = format!("must be even for rotary embedding, found {}", self.head_dim);
            return Err(fields.refuse("head_dim", message));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            let message = format!("must be between 0 and 1, found {}", self.rms_norm_eps);
            return Err(fields.refuse("rms_norm_eps", message));
        }
        let has_rope = |layer: &LayerSpec| layer.rope < self.ropes.len();
        if self.layers.len() != self.num_hidden_layers || !self.layers.iter().all(has_rope) {
            let message = "must be the number of layers described, each with a RoPE of the model";
            return Err(fields.refuse("num_hidden_layers", message));
        }
        let has_scale = |layer: &LayerSpec| {
            layer.query_pre_attn_scalar.is_none() || layer.qk_norm == QkNorm::PerHead
        };
        if !self.layers.iter().all(has_scale) {
            let message = "is read only for layers with a norm of queries";
            return Err(fields.refuse("query_pre_attn_scalar", message));
        }
        if self.n_parameters() > MAX_PARAMETERS {
            let message = "and the other sizes make more than 2^40 parameters";
            return Err(fields.refuse("hidden_size", message));
        }
        Ok(())
    }
}

fn refuse_quantized(fields: Fields<'_>) -> Result<(), EngineError> {
    if let Some(quantization) = fields.object("quantization_config")? {
        let method = quantization
            .str("quant_method")?
            .unwrap_or("an unnamed method");
        return Err(fields.refuse(
            "quantization_config",
            format!("says the weights are quantized ({method}); use the f32, f16 or bf16 weights"),
        ));
    }
    Ok(())
}

/// What Gemma 3's configuration class allows and no published text model uses.
fn refuse_gemma3_options(fields: Fields<'_>) -> Result<(), EngineError> {
    for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if fields.get(name).is_some() {
            return Err(fields.refuse(name, "is not supported; only null is"));
        }
    }
    const BIDIRECTIONAL: &str = "use_bidirectional_attention";
    match fields.bool(BIDIRECTIONAL)? {
        Some(true) => Err(fields.refuse(
            BIDIRECTIONAL,
            "is true: the model is an encoder, which does not generate text",
        )),
        Some(false) | None => Ok(()),
    }
}

fn kv_heads(
    fields: Fields<'_>,
    defaults: &Defaults,
    num_attention_heads: usize,
) -> Result<usize, EngineError> {
    const NAME: &str = "num_key_value_heads";
    if let Some(heads) = fields.usize(NAME)? {
        return Ok(heads);
    }
    // An explicit null means "as many as query heads" even where the class default is a number.
    let class_default = defaults
        .num_key_value_heads
        .filter(|_| !fields.has_key(NAME));
    Ok(class_default.unwrap_or(num_attention_heads))
}

fn head_dim(
    fields: Fields<'_>,
    defaults: &Defaults,
    hidden_size: usize,
    num_attention_heads: usize,
) -> Result<usize, EngineError> {
    if let Some(head_dim) = fields.usize("head_dim")?.or(defaults.head_dim) {
        return Ok(head_dim);
    }
    match hidden_size.checked_rem(num_attention_heads) {
        Some(0) => Ok(hidden_size / num_attention_heads),
        Some(_) => Err(fields.refuse(
            "head_dim",
            format!(
                "is missing and hidden_size ({hidden_size}) is not a multiple of \
                 num_attention_heads ({num_attention_heads})"
            ),
        )),
        None => Err(fields.refuse("num_attention_heads", "must be at least 1")),
    }
}

/// `dtype` (transformers 5) or `torch_dtype` (4), without torch's module prefix.
fn weights_dtype(fields: Fields<'_>) -> Option<String> {
    let name = |field| fields.get(field).and_then(Value::as_str);
    let name = name("dtype").or_else(|| name("torch_dtype"))?;
    Some(name.trim_start_matches("torch.").to_owned())
}

#[cfg(test)]
mod tests;
