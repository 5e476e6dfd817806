//! The attention window of each layer.

use super::architecture::Architecture;
use super::fields::Fields;
use crate::error::EngineError;

/// The window if `config.json` has no `sliding_window`, in all families with windows.
const DEFAULT_WINDOW: usize = 4096;

/// Gemma 3: every layer has a window, except for every sixth.
const DEFAULT_PATTERN: usize = 6;

/// The attention window of each layer. Llama has none, Mistral one for all layers; Qwen2 and Qwen3
/// have one only if `use_sliding_window` is set, in the layers that `layer_types` names or,
/// without that list, from `max_window_layers` on. Gemma 3 has one in the layers that `layer_types`
/// names or, without that list, in all but every `sliding_window_pattern`th.
pub(super) fn sliding_windows(
    fields: Fields<'_>,
    architecture: Architecture,
    num_hidden_layers: usize,
) -> Result<Vec<Option<usize>>, EngineError> {
    match architecture {
        Architecture::Llama => Ok(vec![None; num_hidden_layers]),
        Architecture::Mistral => mistral_windows(fields, num_hidden_layers),
        Architecture::Qwen2 | Architecture::Qwen3 => qwen_windows(fields, num_hidden_layers),
        Architecture::Gemma3 => gemma3_windows(fields, num_hidden_layers),
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
    if let Some(windows) = listed_windows(fields, num_hidden_layers, window)? {
        return Ok(windows);
    }
    let first = fields.usize("max_window_layers")?.unwrap_or(28);
    let layers = 0..num_hidden_layers;
    Ok(layers.map(|l| window.filter(|_| l >= first)).collect())
}

fn gemma3_windows(
    fields: Fields<'_>,
    num_hidden_layers: usize,
) -> Result<Vec<Option<usize>>, EngineError> {
    const PATTERN: &str = "sliding_window_pattern";
    let window = window(fields)?;
    if let Some(windows) = listed_windows(fields, num_hidden_layers, window)? {
        return Ok(windows);
    }
    let pattern = fields.usize(PATTERN)?.unwrap_or(DEFAULT_PATTERN);
    if pattern == 0 {
        return Err(fields.refuse(PATTERN, "must be at least 1"));
    }
    if window.is_none() {
        return Err(fields.refuse("sliding_window", "must be a number, not null"));
    }
    let layers = 1..=num_hidden_layers;
    let windows = layers.map(|l| window.filter(|_| !l.is_multiple_of(pattern)));
    Ok(windows.collect())
}

/// The windows as `layer_types` lists them, if the file has that list.
fn listed_windows(
    fields: Fields<'_>,
    num_hidden_layers: usize,
    window: Option<usize>,
) -> Result<Option<Vec<Option<usize>>>, EngineError> {
    let Some(layer_types) = fields.strings("layer_types")? else {
        return Ok(None);
    };
    if layer_types.len() != num_hidden_layers {
        let message = format!(
            "has {} entries for {num_hidden_layers} layers",
            layer_types.len()
        );
        return Err(fields.refuse("layer_types", message));
    }
    let kinds = layer_types.into_iter();
    let windows = kinds.map(|kind| layer_window(fields, kind, window));
    windows.collect::<Result<_, _>>().map(Some)
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
            "names sliding_attention, but the file gives no window (sliding_window, and use_sliding_window of Qwen)",
        )),
        other => Err(fields.refuse(
            "layer_types",
            format!("names {other:?}; supported: full_attention, sliding_attention"),
        )),
    }
}
