//! The attention window of each layer.

use super::architecture::Architecture;
use super::fields::Fields;
use crate::error::EngineError;

/// The window if `config.json` has no `sliding_window`, in all families with windows.
const DEFAULT_WINDOW: usize = 4096;

/// The attention window of each layer. Llama has none, Mistral one for all layers; Qwen2 and Qwen3
/// have one only if `use_sliding_window` is set, in the layers that `layer_types` names or,
/// without that list, from `max_window_layers` on.
pub(super) fn sliding_windows(
    fields: Fields<'_>,
    architecture: Architecture,
    num_hidden_layers: usize,
) -> Result<Vec<Option<usize>>, EngineError> {
    match architecture {
        Architecture::Llama => Ok(vec![None; num_hidden_layers]),
        Architecture::Mistral => mistral_windows(fields, num_hidden_layers),
        Architecture::Qwen2 | Architecture::Qwen3 => qwen_windows(fields, num_hidden_layers),
    }
}

fn mistral_windows(
    fields: Fields<'_>,
    num_hidden_layers: usize,
) -> Result<Vec<Option<usize>>, EngineError> {
    // Ministral alternates windows under this name, and transformers 4 would not have read the list.
    if fields.get("layer_types").is_some() {
        return Err(fields.refuse("layer_types", "is not read for MistralForCausalLM"));
    }
    Ok(vec![window(fields)?; num_hidden_layers])
}

fn qwen_windows(
    fields: Fields<'_>,
    num_hidden_layers: usize,
) -> Result<Vec<Option<usize>>, EngineError> {
    let window = match fields.bool("use_sliding_window")? {
        Some(true) => window(fields)?,
        Some(false) | None => None,
    };
    let Some(layer_types) = fields.strings("layer_types")? else {
        let first = fields.usize("max_window_layers")?.unwrap_or(28);
        return Ok((0..num_hidden_layers)
            .map(|l| window.filter(|_| l >= first))
            .collect());
    };
    if layer_types.len() != num_hidden_layers {
        let message = format!(
            "has {} entries for {num_hidden_layers} layers",
            layer_types.len()
        );
        return Err(fields.refuse("layer_types", message));
    }
    layer_types
        .into_iter()
        .map(|kind| layer_window(fields, kind, window))
        .collect()
}

fn window(fields: Fields<'_>) -> Result<Option<usize>, EngineError> {
    let window = match fields.has_key("sliding_window") {
        true => fields.usize("sliding_window")?,
        false => Some(DEFAULT_WINDOW),
    };
    match window {
        Some(0) => Err(fields.refuse("sliding_window", "must be at least 1")),
        window => Ok(window),
    }
}

fn layer_window(
    fields: Fields<'_>,
    kind: &str,
    window: Option<usize>,
) -> Result<Option<usize>, EngineError> {
    match kind {
        // "attention" is the name older files use.
        "full_attention" | "attention" => Ok(None),
        "sliding_attention" if window.is_some() => Ok(window),
        "sliding_attention" => Err(fields.refuse(
            "layer_types",
            "names sliding_attention, but use_sliding_window and sliding_window give no window",
        )),
        other => Err(fields.refuse(
            "layer_types",
            format!("names {other:?}; supported: full_attention, sliding_attention"),
        )),
    }
}
