//! Llama 3's RoPE scaling. GGUF files do not state its four parameters: they have a tensor with the
//! number by which each frequency is divided. The parameters are found again and checked against it.

use serde_json::{Value, json};

use super::parts::Parts;
use super::tensor_type::TensorType;
use crate::config::{RopeConfig, RopeScaling, inv_freq};
use crate::error::EngineError;

/// The tensor, which is not one of the model's weights.
pub(crate) const TENSOR: &str = "rope_freqs.weight";
/// The largest relative difference between a divisor in the file and the one that follows from the
/// parameters: the converter computes them in another order.
const TOLERANCE: f32 = 1e-4;
/// What Llama 3.1, 3.2 and 3.3 have in common.
const LOW_FREQ_FACTOR: f64 = 1.0;
const HIGH_FREQ_FACTOR: f64 = 4.0;
const ORIGINAL_LENGTH: usize = 8192;

/// The `rope_scaling` of the model's `config.json`, if the file has the tensor.
///
/// # Errors
/// [`EngineError::ModelFile`] for a tensor that Llama 3's scaling does not give.
pub(super) fn llama3_scaling(
    model: &Parts,
    head_dim: Option<usize>,
    theta: f64,
) -> Result<Option<Value>, EngineError> {
    let Some(tensor) = model.tensor(TENSOR) else {
        return Ok(None);
    };
    let refuse =
        |what: &str| EngineError::model_file(model.path(), format!("tensor {TENSOR} {what}"));
    let head_dim = head_dim.unwrap_or_default();
    if tensor.kind != TensorType::F32 || tensor.shape != [head_dim / 2] {
        return Err(refuse(
            "must hold one f32 for each pair of a head's dimensions",
        ));
    }
    let data = model.read(TENSOR)?.unwrap_or_default();
    let divisors: Vec<f32> = data
        .as_chunks()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let factor = divisors.iter().copied().fold(1.0, f32::max);
    if !agree(&divisors, theta, factor, head_dim) {
        return Err(refuse(
            "scales RoPE in another way than Llama 3, which is not supported",
        ));
    }
    Ok(Some(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": LOW_FREQ_FACTOR,
        "high_freq_factor": HIGH_FREQ_FACTOR,
        "original_max_position_embeddings": ORIGINAL_LENGTH,
    })))
}

/// Whether Llama 3's scaling by `factor` divides each frequency as the file does.
fn agree(divisors: &[f32], theta: f64, factor: f32, head_dim: usize) -> bool {
    let rope = |scaling| RopeConfig { theta, scaling };
    let base = inv_freq(&rope(RopeScaling::Default), head_dim);
    let scaled = inv_freq(
        &rope(RopeScaling::Llama3 {
            factor: f64::from(factor),
            low_freq_factor: LOW_FREQ_FACTOR,
            high_freq_factor: HIGH_FREQ_FACTOR,
            original_max_position_embeddings: ORIGINAL_LENGTH,
        }),
        head_dim,
    );
    let pairs = base.iter().zip(&scaled).zip(divisors);
    pairs
        .into_iter()
        .all(|((base, scaled), divisor)| (base / scaled / divisor - 1.0).abs() < TOLERANCE)
}
