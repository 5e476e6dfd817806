//! What one decoder layer computes, as plain data that `model/layer.rs` follows.
//!
//! A family is a list of these and a map of tensor names (`model/tensor_names.rs`). Only features of
//! supported families are fields. What other families need must be added here and read in
//! `model/layer.rs`: norms after attention and the MLP alone, a QK-norm over all heads, a soft cap on
//! scores, residual multipliers, layers without RoPE. What a family has once (the scale of embeddings,
//! a soft cap on logits) belongs in [`super::ModelConfig`] and is read in `model/decoder.rs`. The head
//! size is there too, because KV blocks of all layers have one shape.

use super::architecture::Architecture;
use super::fields::Fields;
use super::limits::{MAX_HIDDEN_SIZE, MAX_LAYERS, check_size};
use super::rope::GEMMA3_WINDOW_ROPE;
use super::windows::sliding_windows;
use crate::error::EngineError;

/// What one decoder layer computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSpec {
    /// `Some(w)`: a row sees itself and the `w - 1` positions before it.
    pub sliding_window: Option<usize>,
    /// Which of [`super::ModelConfig::ropes`] turns queries and keys.
    pub rope: usize,
    pub qk_norm: QkNorm,
    /// Scores are divided by the square root of this; by that of `head_dim` if `None`. Needs a [`QkNorm`], whose
    /// weight takes the difference when the model is loaded.
    pub query_pre_attn_scalar: Option<usize>,
    pub norms: Norms,
    pub activation: Activation,
    pub biases: Biases,
}

/// The RMS norm of queries and keys, before RoPE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    None,
    /// Each head on its own, all with one weight of `head_dim`.
    PerHead,
}

/// Where attention and MLP have norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    /// On what they read.
    Before,
    /// Also on what they add to the residual stream.
    BeforeAndAfter,
}

/// The function that gates the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.
    GeluTanh,
}

/// Which projections have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Biases {
    /// The projections to Q, K and V.
    pub qkv: bool,
    /// The output projection of attention.
    pub attention_output: bool,
    /// All three projections of the MLP.
    pub mlp: bool,
}

/// The layers of a model, from `config.json`.
pub(super) fn layer_specs(
    fields: Fields<'_>,
    architecture: Architecture,
    num_hidden_layers: usize,
) -> Result<Vec<LayerSpec>, EngineError> {
    // Check before anything is allocated per layer.
    check_size(fields, "num_hidden_layers", num_hidden_layers, MAX_LAYERS)?;
    let activation = activation(fields, architecture)?;
    let biases = biases(fields, architecture)?;
    let (qk_norm, norms) = match architecture {
        Architecture::Llama | Architecture::Mistral | Architecture::Qwen2 => {
            (QkNorm::None, Norms::Before)
        }
        Architecture::Qwen3 => (QkNorm::PerHead, Norms::Before),
        Architecture::Gemma3 => (QkNorm::PerHead, Norms::BeforeAndAfter),
    };
    let query_pre_attn_scalar = query_pre_attn_scalar(fields, architecture)?;
    let windows = sliding_windows(fields, architecture, num_hidden_layers)?;
    let spec = |sliding_window: Option<usize>| LayerSpec {
        sliding_window,
        rope: match architecture {
            Architecture::Gemma3 if sliding_window.is_some() => GEMMA3_WINDOW_ROPE,
            _ => 0,
        },
        qk_norm,
        query_pre_attn_scalar,
        norms,
        activation,
        biases,
    };
    Ok(windows.into_iter().map(spec).collect())
}

fn activation(fields: Fields<'_>, architecture: Architecture) -> Result<Activation, EngineError> {
    let (field, known, activation) = match architecture {
        Architecture::Gemma3 => (
            "hidden_activation",
            "gelu_pytorch_tanh",
            Activation::GeluTanh,
        ),
        _ => ("hidden_act", "silu", Activation::Silu),
    };
    match fields.str(field)? {
        Some(other) if other != known => {
            Err(fields.refuse(field, format!("is {other:?}; supported: {known}")))
        }
        _ => Ok(activation),
    }
}

fn query_pre_attn_scalar(
    fields: Fields<'_>,
    architecture: Architecture,
) -> Result<Option<usize>, EngineError> {
    const NAME: &str = "query_pre_attn_scalar";
    if architecture != Architecture::Gemma3 {
        return Ok(None);
    }
    let scalar = fields.usize(NAME)?.unwrap_or(256);
    check_size(fields, NAME, scalar, MAX_HIDDEN_SIZE)?;
    Ok(Some(scalar))
}

/// Fields that a family does not have are ignored, as in transformers.
fn biases(fields: Fields<'_>, architecture: Architecture) -> Result<Biases, EngineError> {
    let flag = |name| Ok::<bool, EngineError>(fields.bool(name)?.unwrap_or(false));
    let qkv = match architecture {
        Architecture::Llama | Architecture::Qwen3 | Architecture::Gemma3 => flag("attention_bias")?,
        Architecture::Mistral => false,
        Architecture::Qwen2 => true,
    };
    Ok(Biases {
        qkv,
        attention_output: qkv && architecture != Architecture::Qwen2,
        mlp: architecture == Architecture::Llama && flag("mlp_bias")?,
    })
}
