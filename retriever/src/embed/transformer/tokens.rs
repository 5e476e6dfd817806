//! From text to the inputs of the encoder: token ids with the special tokens around them. A text
//! longer than the maximum becomes several windows, each with the prompt and the special tokens.
//!
//! No special token comes out of a text, even if the text spells one.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::files::{parse, read};
use super::recipe::Recipe;
use crate::embed::open_error::OpenEmbedderError;
use crate::error::RetrieverError;

/// The largest `tokenizer.json` that is read, bytes; that of XLM-RoBERTa has 17 MB.
const MAX_TOKENIZER_BYTES: u64 = 128 << 20;
/// A text that every vocabulary has a token for, if only the one for unknown text.
const PROBE: &str = "a";

/// Encodes texts for one model.
pub(super) struct TextEncoder {
    tokenizer: Tokenizer,
    /// Special tokens, which must not come out of a text.
    special: HashSet<u32>,
    before: Vec<u32>,
    after: Vec<u32>,
    max_seq_length: usize,
    do_lower_case: bool,
    file_hash: blake3::Hash,
}

/// One input of the encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// Token ids, special ones and prompt included.
    pub(super) ids: Vec<u32>,
    /// Tokens of the text in it.
    pub(super) n_text_tokens: usize,
}

impl TextEncoder {
    pub(super) fn read(dir: &Path, recipe: &Recipe) -> Result<Self, OpenEmbedderError> {
        let path = dir.join(&recipe.encoder_folder).join("tokenizer.json");
        if !path.exists() {
            let message =
                "is missing; write it with `SentenceTransformer(DIR).save(NEW_DIR)` in Python";
            return Err(OpenEmbedderError::file(&path, message));
        }
        let refuse = |message: String| OpenEmbedderError::file(&path, message);
        let bytes = read(&path, MAX_TOKENIZER_BYTES)?;
        let definition = parse(&bytes, &path)?;
        let special = special_ids(&definition);
        let tokenizer: Tokenizer = plain(definition)
            .to_string()
            .parse()
            .map_err(|error: tokenizers::Error| refuse(format!("is not a tokenizer: {error}")))?;
        check_rows(&tokenizer, recipe.encoder.vocab_size).map_err(refuse)?;
        let (before, after) = surroundings(&tokenizer).map_err(refuse)?;
        let rows = recipe.encoder.vocab_size;
        if let Some(id) = before.iter().chain(&after).find(|id| **id as usize >= rows) {
            return Err(refuse(beyond(*id, rows)));
        }
        let encoder = Self {
            tokenizer,
            special,
            before,
            after,
            max_seq_length: recipe.max_seq_length,
            do_lower_case: recipe.do_lower_case,
            file_hash: blake3::hash(&bytes),
        };
        for prompt in [&recipe.query_prompt, &recipe.document_prompt] {
            let error = |error: RetrieverError| refuse(error.to_string());
            let n_tokens = encoder.ids(prompt).map_err(error)?.len();
            if encoder.room().saturating_sub(n_tokens) == 0 {
                let limit = encoder.max_seq_length;
                return Err(refuse(format!(
                    "makes {n_tokens} tokens of the prompt {prompt:?}, which leaves no room for text \
                     in the maximum of {limit}"
                )));
            }
        }
        Ok(encoder)
    }

    /// The inputs for `prompt` and `text`: one, or several if they are longer than the maximum.
    ///
    /// # Errors
    /// `Tokenizer`.
    pub(super) fn windows(&self, prompt: &str, text: &str) -> Result<Vec<Window>, RetrieverError> {
        let ids = self.ids(&format!("{prompt}{text}"))?;
        if ids.len() <= self.room() {
            return Ok(vec![self.window(&[], &ids)]);
        }
        // The last blank of a prompt becomes part of the first word after it, if it becomes anything.
        let prompt_ids = self.ids(prompt.trim_end())?;
        let text_ids = ids.get(prompt_ids.len()..).unwrap_or_default();
        let room = self.room() - prompt_ids.len();
        let windows = text_ids.chunks(room);
        Ok(windows.map(|ids| self.window(&prompt_ids, ids)).collect())
    }

    /// Hash of `tokenizer.json`, which decides the ids of a text.
    pub(super) fn file_hash(&self) -> &blake3::Hash {
        &self.file_hash
    }

    /// Tokens that fit between the special ones.
    fn room(&self) -> usize {
        let around = self.before.len() + self.after.len();
        self.max_seq_length.saturating_sub(around)
    }

    fn window(&self, prompt_ids: &[u32], ids: &[u32]) -> Window {
        Window {
            ids: [&self.before, prompt_ids, ids, &self.after].concat(),
            n_text_tokens: ids.len(),
        }
    }

    /// The ids of a text, without special tokens.
    fn ids(&self, text: &str) -> Result<Vec<u32>, RetrieverError> {
        let lowered = self.do_lower_case.then(|| text.to_lowercase());
        let text = lowered.as_deref().unwrap_or(text);
        let encoding = self.tokenizer.encode_fast(text, false);
        let encoding = encoding.map_err(|error| RetrieverError::Tokenizer {
            message: error.to_string(),
        })?;
        let is_text = |id: &u32| !self.special.contains(id);
        Ok(encoding.get_ids().iter().copied().filter(is_text).collect())
    }
}

/// Without truncation and padding, which are done here, and without added tokens, which text could
/// spell.
fn plain(mut definition: Value) -> Value {
    if let Some(root) = definition.as_object_mut() {
        root.insert("truncation".to_owned(), Value::Null);
        root.insert("padding".to_owned(), Value::Null);
        root.insert("added_tokens".to_owned(), json!([]));
    }
    definition
}

/// The ids of the special tokens, except the one for unknown text.
fn special_ids(definition: &Value) -> HashSet<u32> {
    let unknown = &definition["model"]["unk_token"];
    let unknown_id = definition["model"]["unk_id"].as_u64();
    let added = definition["added_tokens"].as_array();
    let added = added.into_iter().flatten();
    let special = added.filter(|token| token["special"] == true && token["content"] != *unknown);
    let ids = special.filter_map(|token| token["id"].as_u64());
    let ids = ids.filter(|id| Some(*id) != unknown_id);
    ids.filter_map(|id| u32::try_from(id).ok()).collect()
}

/// The ids before and after each text. The tokenizer's own rule is asked with a text of known ids.
fn surroundings(tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<u32>), String> {
    let ids = |add_special_tokens| {
        let encoding = tokenizer.encode(PROBE, add_special_tokens);
        let encoding = encoding.map_err(|error| error.to_string())?;
        Ok::<_, String>(encoding.get_ids().to_vec())
    };
    let (with, without) = (ids(true)?, ids(false)?);
    let place = with
        .windows(without.len().max(1))
        .position(|window| window == without);
    let start = place.ok_or("adds special tokens inside a text, which is not supported")?;
    let (before, rest) = with.split_at(start);
    Ok((before.to_vec(), rest[without.len()..].to_vec()))
}

/// The model must have a vector for every token.
fn check_rows(tokenizer: &Tokenizer, rows: usize) -> Result<(), String> {
    let last = tokenizer.get_vocab(false).into_values().max();
    match last {
        Some(id) if id as usize >= rows => Err(beyond(id, rows)),
        Some(_) => Ok(()),
        None => Err("has an empty vocabulary".to_owned()),
    }
}

fn beyond(id: u32, rows: usize) -> String {
    format!(
        "has the token id {id}, and the model has vectors for {rows}; tokenizer and model do not belong together"
    )
}
