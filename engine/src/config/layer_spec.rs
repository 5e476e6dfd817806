//! What one decoder layer computes, as plain data that `model/layer.rs` follows.
//!
//! A family is a list of these and a map of tensor names (`model/tensor_names.rs`). Only features of
//! supported families are fields. What other families need must be added here and read in
//! `model/layer.rs`: norms after attention and the MLP, a QK-norm over all heads, GELU-tanh, another
//! attention scale than `1 / sqrt(head_dim)`, a soft cap on scores, residual multipliers, layers
//! without RoPE. What a family has once (an embedding multiplier, a soft cap on logits) belongs in
//! [`super::ModelConfig`] and is read in `model/decoder.rs`. The head size is there too, because KV
//! blocks of all layers have one shape.

use super::architecture::Architecture;
use super::fields::Fields;
use super::limits::{MAX_LAYERS, check_size};
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

/// The function that gates the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
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
    let activation = activation(fields)?;
    let biases = biases(fields, architecture)?;
    let qk_norm = match architecture {
        Architecture::Llama | Architecture::Mistral | Architecture::Qwen2 => QkNorm::None,
        Architecture::Qwen3 => QkNorm::PerHead,
    };
    let windows = sliding_windows(fields, architecture, num_hidden_layers)?;
    let spec = |sliding_window| LayerSpec {
        sliding_window,
        rope: 0,
        qk_norm,
        activation,
        biases,
    };
    Ok(windows.into_iter().map(spec).collect())
}

fn activation(fields: Fields<'_>) -> Result<Activation, EngineError> {
    match fields.str("hidden_act")? {
        None | Some("silu") => Ok(Activation::Silu),
        Some(other) => Err(fields.refuse("hidden_act", format!("is {other:?}; supported: silu"))),
    }
}

/// Fields that a family does not have are ignored, as in transformers.
fn biases(fields: Fields<'_>, architecture: Architecture) -> Result<Biases, EngineError> {
    let flag = |name| Ok::<bool, EngineError>(fields.bool(name)?.unwrap_or(false));
    let qkv = match architecture {
        Architecture::Llama | Architecture::Qwen3 => flag("attention_bias")?,
        Architecture::Mistral => false,
        Architecture::Qwen2 => true,
    };
    Ok(Biases {
        qkv,
        attention_output: qkv && architecture != Architecture::Qwen2,
        mlp: architecture == Architecture::Llama && flag("mlp_bias")?,
    })
}
