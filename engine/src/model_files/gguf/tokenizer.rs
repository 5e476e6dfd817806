//! The tokenizer that a GGUF file's metadata describes, as the `tokenizer.json` and `tokenizer_config.json` of
//! the same model. What the metadata leaves open follows transformers' reader of GGUF files, and where
//! that differs from the model's own `tokenizer.json`, the latter.

mod byte_level;
mod sentence_piece;
pub(crate) mod vocabulary;

use serde_json::{Map, Value, json};

use self::vocabulary::{BOS_KEY, EOS_KEY, TOKENS_KEY, Vocabulary, id};
use super::family::Family;
use super::metadata::Metadata;
use crate::error::EngineError;

const MODEL_KEY: &str = "tokenizer.ggml.model";
const PADDING_KEY: &str = "tokenizer.ggml.padding_token_id";
const ADD_BOS_KEY: &str = "tokenizer.ggml.add_bos_token";
const TEMPLATE_KEY: &str = "tokenizer.chat_template";
/// The names of further templates, each under [`TEMPLATE_KEY`] and its name.
const TEMPLATES_KEY: &str = "tokenizer.chat_templates";
/// The value of [`MODEL_KEY`] in a file without a tokenizer.
const NO_MODEL: &str = "none";

/// Whether the file has a tokenizer.
pub(super) fn exists(metadata: &Metadata) -> bool {
    metadata.has(MODEL_KEY) && metadata.json(MODEL_KEY) != json!(NO_MODEL)
}

/// The `tokenizer.json`.
pub(super) fn definition(metadata: &Metadata, family: Family) -> Result<Value, EngineError> {
    let kind = metadata.str(MODEL_KEY)?;
    let kind = kind.ok_or_else(|| metadata.missing(MODEL_KEY))?;
    let vocabulary = Vocabulary::read(metadata)?;
    match kind {
        "gpt2" => byte_level::definition(&vocabulary),
        "llama" => sentence_piece::definition(&vocabulary, family),
        other => Err(metadata.refuse(
            MODEL_KEY,
            format!(
                "is {other:?}; supported: gpt2, llama. For another one, put the model's \
                 tokenizer.json beside the file"
            ),
        )),
    }
}

/// The `tokenizer_config.json`: tokens by role, whether a text begins with BOS, and chat templates.
pub(super) fn config(metadata: &Metadata) -> Result<Value, EngineError> {
    let mut config = Map::new();
    let tokens = metadata.strs(TOKENS_KEY)?.unwrap_or_default();
    for (role, key) in [
        ("bos_token", BOS_KEY),
        ("eos_token", EOS_KEY),
        ("unk_token", sentence_piece::UNKNOWN_KEY),
        ("pad_token", PADDING_KEY),
    ] {
        if let Some(id) = id(metadata, key, tokens.len())? {
            config.insert(role.to_owned(), json!(tokens[id]));
        }
    }
    config.insert("add_bos_token".to_owned(), json!(adds_bos(metadata)?));
    config.insert("chat_template".to_owned(), templates(metadata)?);
    Ok(Value::Object(config))
}

/// Whether a text that is not a chat begins with BOS: the defaults are llama.cpp's.
fn adds_bos(metadata: &Metadata) -> Result<bool, EngineError> {
    if let Some(adds) = metadata.bool(ADD_BOS_KEY)? {
        return Ok(adds);
    }
    let by_default = match metadata.str(MODEL_KEY)? {
        Some("llama") => true,
        Some("gpt2") => byte_level::adds_bos(metadata)?,
        _ => false,
    };
    Ok(by_default)
}

/// One template, or a list of templates by name.
fn templates(metadata: &Metadata) -> Result<Value, EngineError> {
    if let Some(template) = metadata.str(TEMPLATE_KEY)? {
        return Ok(json!(template));
    }
    let Some(names) = metadata.strs(TEMPLATES_KEY)? else {
        return Ok(Value::Null);
    };
    let mut templates = Vec::with_capacity(names.len());
    for name in names {
        let template = metadata.str(&format!("{TEMPLATE_KEY}.{name}"))?;
        templates.push(json!({"name": name, "template": template}));
    }
    Ok(Value::Array(templates))
}

#[cfg(test)]
mod tests;
