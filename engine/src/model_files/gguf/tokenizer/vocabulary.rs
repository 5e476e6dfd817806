//! The vocabulary of a GGUF file: tokens, their types, merges, and the tokens that are named by role.

use serde_json::{Value, json};

use crate::error::EngineError;
use crate::model_files::gguf::metadata::Metadata;

pub(crate) const TOKENS_KEY: &str = "tokenizer.ggml.tokens";
pub(crate) const BOS_KEY: &str = "tokenizer.ggml.bos_token_id";
pub(crate) const EOS_KEY: &str = "tokenizer.ggml.eos_token_id";
pub(super) const MERGES_KEY: &str = "tokenizer.ggml.merges";
const TYPES_KEY: &str = "tokenizer.ggml.token_type";
/// The longest token, bytes. The longest of published models has 256.
const MAX_TOKEN_BYTES: usize = 4_096;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The vocabulary, checked.
pub(super) struct Vocabulary<'a> {
    pub(super) metadata: &'a Metadata,
    /// By id.
    pub(super) tokens: Vec<&'a str>,
    pub(super) types: Vec<TokenType>,
}

/// The token id under `key`, which must be one of `n_tokens`.
pub(super) fn id(
    metadata: &Metadata,
    key: &str,
    n_tokens: usize,
) -> Result<Option<usize>, EngineError> {
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
    pub(super) fn read(metadata: &'a Metadata) -> Result<Self, EngineError> {
        let tokens = metadata.strs(TOKENS_KEY)?;
        let tokens = tokens.ok_or_else(|| metadata.missing(TOKENS_KEY))?;
        if let Some(id) = tokens
            .iter()
            .position(|token| token.len() > MAX_TOKEN_BYTES)
        {
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
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &'a str, TokenType)> {
        let tokens = self.tokens.iter().zip(&self.types).enumerate();
        tokens.map(|(id, (token, kind))| (id, *token, *kind))
    }

    /// The tokens that are found in a text before it is cut into others, as `tokenizer.json` lists them.
    /// Those that control the model are special: they are left out of answers.
    pub(super) fn added_tokens(&self) -> Result<Value, EngineError> {
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
    pub(super) fn listed_merges(&self) -> Result<Option<Value>, EngineError> {
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

pub(super) fn check_len(
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
