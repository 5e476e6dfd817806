//! The tokenizer that a GGUF file's metadata describes, as the `tokenizer.json` and `tokenizer_config.json` of
//! the same model. What the metadata leaves open follows transformers' reader of GGUF files, and where
//! that differs from the model's own `tokenizer.json`, the latter.

mod byte_level;
mod sentence_piece;

use serde_json::{Map, Value, json};

use super::config::{BOS_KEY, EOS_KEY, TOKENS_KEY};
use super::family::Family;
use super::metadata::Metadata;
use crate::error::EngineError;

const MODEL_KEY: &str = "tokenizer.ggml.model";
const PRE_KEY: &str = "tokenizer.ggml.pre";
const TYPES_KEY: &str = "tokenizer.ggml.token_type";
const MERGES_KEY: &str = "tokenizer.ggml.merges";
const UNKNOWN_KEY: &str = "tokenizer.ggml.unknown_token_id";
const PADDING_KEY: &str = "tokenizer.ggml.padding_token_id";
const ADD_BOS_KEY: &str = "tokenizer.ggml.add_bos_token";
const TEMPLATE_KEY: &str = "tokenizer.chat_template";
/// The names of further templates, each under [`TEMPLATE_KEY`] and its name.
const TEMPLATES_KEY: &str = "tokenizer.chat_templates";
/// The value of [`MODEL_KEY`] in a file without a tokenizer.
const NO_MODEL: &str = "none";
/// The longest token, bytes. The longest of published models has 256.
const MAX_TOKEN_BYTES: usize = 4_096;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The vocabulary, checked.
struct Vocabulary<'a> {
    metadata: &'a Metadata,
    /// By id.
    tokens: Vec<&'a str>,
    types: Vec<TokenType>,
}

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
        ("unk_token", UNKNOWN_KEY),
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
        Some("gpt2") => metadata.str(PRE_KEY)?.is_some_and(byte_level::adds_bos),
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

/// The token id under `key`, which must be one of `n_tokens`.
fn id(metadata: &Metadata, key: &str, n_tokens: usize) -> Result<Option<usize>, EngineError> {
    let Some(id) = metadata.u64(key)? else {
        return Ok(None);
    };
    match usize::try_from(id).ok().filter(|id| *id < n_tokens) {
        Some(id) => Ok(Some(id)),
        None => Err(metadata.refuse(
            key,
            format!("names token {id}, but {TOKENS_KEY} has {n_tokens} tokens"),
        )),
    }
}

impl<'a> Vocabulary<'a> {
    fn read(metadata: &'a Metadata) -> Result<Self, EngineError> {
        let tokens = metadata.strs(TOKENS_KEY)?;
        let tokens = tokens.ok_or_else(|| metadata.missing(TOKENS_KEY))?;
        if let Some(id) = tokens.iter().position(|token| token.len() > MAX_TOKEN_BYTES) {
            let message = format!("token {id} is longer than {MAX_TOKEN_BYTES} bytes");
            return Err(metadata.refuse(TOKENS_KEY, message));
        }
        Ok(Self {
            types: token_types(metadata, tokens.len())?,
            tokens,
            metadata,
        })
    }

    /// Ids, tokens and types.
    fn iter(&self) -> impl Iterator<Item = (usize, &'a str, TokenType)> {
        let tokens = self.tokens.iter().zip(&self.types).enumerate();
        tokens.map(|(id, (token, kind))| (id, *token, *kind))
    }

    /// The tokens that are found in a text before it is cut into others, as `tokenizer.json` lists them.
    /// Those that control the model are special: they are left out of answers.
    fn added_tokens(&self) -> Result<Value, EngineError> {
        let mut named = Vec::new();
        for key in [BOS_KEY, EOS_KEY] {
            named.extend(id(self.metadata, key, self.tokens.len())?);
        }
        let special = |id: &usize, kind| {
            matches!(kind, TokenType::Control | TokenType::Unknown) || named.contains(id)
        };
        let added = self.iter().filter(|(id, token, kind)| {
            let is_added = special(id, *kind) || *kind == TokenType::UserDefined;
            // Runs of spaces are ordinary text, which is cut after spaces have been replaced.
            is_added && !token.trim_matches(' ').is_empty()
        });
        Ok(added
            .map(|(id, token, kind)| {
                json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": special(&id, kind),
                })
            })
            .collect())
    }

    /// The merges that the file lists, as pairs.
    fn listed_merges(&self) -> Result<Option<Value>, EngineError> {
        let Some(merges) = self.metadata.strs(MERGES_KEY)? else {
            return Ok(None);
        };
        let pair = |(index, merge): (usize, &&str)| match merge.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => Ok(json!([left, right])),
            _ => Err(self.metadata.refuse(
                MERGES_KEY,
                format!("has {merge:?} at {index}, not two tokens and a space between them"),
            )),
        };
        let pairs = merges.iter().enumerate().map(pair);
        pairs.collect::<Result<Value, _>>().map(Some)
    }
}

fn token_types(metadata: &Metadata, n_tokens: usize) -> Result<Vec<TokenType>, EngineError> {
    let Some(numbers) = metadata.i64s(TYPES_KEY)? else {
        return Ok(vec![TokenType::Normal; n_tokens]);
    };
    check_len(metadata, TYPES_KEY, numbers.len(), n_tokens)?;
    let kind = |number: &i64| match number {
        1 => Ok(TokenType::Normal),
        2 => Ok(TokenType::Unknown),
        3 => Ok(TokenType::Control),
        4 => Ok(TokenType::UserDefined),
        5 => Ok(TokenType::Unused),
        6 => Ok(TokenType::Byte),
        other => Err(metadata.refuse(TYPES_KEY, format!("has the unknown type {other}"))),
    };
    numbers.iter().map(kind).collect()
}

fn check_len(
    metadata: &Metadata,
    key: &str,
    len: usize,
    n_tokens: usize,
) -> Result<(), EngineError> {
    match len == n_tokens {
        true => Ok(()),
        false => Err(metadata.refuse(
            key,
            format!("has {len} entries, but {TOKENS_KEY} has {n_tokens} tokens"),
        )),
    }
}

#[cfg(test)]
mod tests;
