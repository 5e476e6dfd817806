//! The special tokens that the files beside `tokenizer.json` name by role, and those that are put before a
//! text.

use std::collections::BTreeMap;

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::config::fields::Fields;
use crate::error::EngineError;
use crate::model_files::source::ModelSource;

/// The tokens that files name by role and chat templates may use.
const NAMED_TOKENS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// Reads which tokens are BOS, EOS and so on. `tokenizer_config.json` takes precedence over the older map.
pub(super) fn named_tokens(
    source: &ModelSource,
) -> Result<BTreeMap<&'static str, String>, EngineError> {
    let mut tokens = BTreeMap::new();
    let older = source.special_tokens()?;
    let newer = source.tokenizer_config()?;
    for file in [older, newer].iter().flatten() {
        let fields = file.fields()?;
        for role in NAMED_TOKENS {
            if let Some(token) = token_text(fields, role)? {
                tokens.insert(role, token.to_owned());
            }
        }
    }
    Ok(tokens)
}

/// A token given as a string or as `{"content": ".."}`.
fn token_text<'a>(fields: Fields<'a>, role: &'static str) -> Result<Option<&'a str>, EngineError> {
    match fields.get(role) {
        Some(Value::Object(_)) => match fields.object(role)? {
            Some(object) => object.str("content"),
            None => Ok(None),
        },
        _ => fields.str(role),
    }
}

/// The special tokens before a text that is not a chat: see `TextCodec::opening`.
///
/// # Errors
/// [`EngineError::ModelFile`] for a file that is not JSON, [`EngineError::UnsupportedModel`] when
/// `add_bos_token` is not true, false or null.
pub(super) fn opening(
    source: &ModelSource,
    tokenizer: &Tokenizer,
    bos: Option<&String>,
) -> Result<String, EngineError> {
    let add_bos = match source.tokenizer_config()? {
        Some(config) => config.fields()?.bool("add_bos_token")?,
        None => None,
    };
    let bos = bos.filter(|bos| tokenizer.token_to_id(bos).is_some());
    let mut tokens = tokens_before_text(tokenizer).unwrap_or_default();
    match (add_bos, bos) {
        (Some(false), _) => tokens.retain(|token| Some(token) != bos),
        (Some(true), Some(bos)) if !tokens.contains(bos) => tokens.insert(0, bos.clone()),
        _ => {}
    }
    Ok(tokens.concat())
}

/// What the post-processor puts before a text.
fn tokens_before_text(tokenizer: &Tokenizer) -> Option<Vec<String>> {
    const PROBE: &str = "a";
    let text = tokenizer.encode_fast(PROBE, false).ok()?;
    let whole = tokenizer.encode_fast(PROBE, true).ok()?;
    let (text, whole) = (text.get_ids(), whole.get_ids());
    let start = whole
        .windows(text.len().max(1))
        .position(|ids| ids == text)?;
    whole[..start]
        .iter()
        .map(|id| tokenizer.id_to_token(*id))
        .collect()
}
