//! Text to token ids and back with the model's tokenizer. There are two instances of the
//! tokenizer, kept apart for safety: text from documents and questions
//! goes through the plain one, which never produces an added token, whatever the text is.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::detokenize::Detokenizer;
use super::named_tokens::{named_tokens, opening};
use super::token_decoder::TokenDecoder;
use crate::error::EngineError;
use crate::model_files::source::{ModelSource, TokenizerFile};

/// A model's tokenizer. Cloning shares it.
#[derive(Debug, Clone)]
pub struct TextCodec {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Has the added tokens; used for template text and decoding.
    template: TokenDecoder,
    /// Has no added tokens; used for text from outside.
    plain: Tokenizer,
    /// Added tokens by id that must not come out of the plain instance.
    forbidden: HashMap<u32, String>,
    named_tokens: BTreeMap<&'static str, String>,
    /// Special tokens before a text that is not a chat.
    opening: String,
    hash: [u8; 32],
}

impl TextCodec {
    /// Reads `tokenizer.json` and the names of the special tokens in the model directory `dir`, or
    /// those of the GGUF file `dir`.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] for a missing or malformed JSON file,
    /// [`EngineError::Tokenizer`] for a tokenizer of an unknown kind.
    pub fn from_dir(dir: &Path) -> Result<Self, EngineError> {
        Self::from_source(&ModelSource::open(dir)?)
    }

    /// [`TextCodec::from_dir`], from an opened model.
    pub(crate) fn from_source(source: &ModelSource) -> Result<Self, EngineError> {
        let TokenizerFile {
            path,
            definition,
            bytes,
        } = source.tokenizer()?;
        let definition = without_side_effects(definition);
        let template = instance(&definition, &path)?;
        let plain = instance(&without_added_tokens(definition.clone()), &path)?;
        let added = template.get_added_tokens_decoder();
        let unknown = definition["model"]["unk_token"].as_str();
        let forbidden = added
            .iter()
            .filter(|(_, token)| token.special || !means_itself(&token.content))
            // It controls nothing and only means "no token for this", so text cannot abuse it.
            .filter(|(_, token)| Some(token.content.as_str()) != unknown)
            .map(|(id, token)| (*id, token.content.clone()))
            .collect();
        let named_tokens = named_tokens(source)?;
        let inner = Inner {
            opening: opening(source, &template, named_tokens.get("bos_token"))?,
            template: TokenDecoder::new(template, &path),
            plain,
            forbidden,
            named_tokens,
            hash: hash(&bytes, &source.special_tokens_bytes()?),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Encodes text from a document or a question. The result has no added or special token, even if
    /// the text spells one; such a spelling becomes the ordinary tokens of its characters.
    ///
    /// # Errors
    /// [`EngineError::Tokenizer`] when the tokenizer refuses the text, or when a special token is
    /// a single character of the vocabulary and the text contains it.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let encoding = self
            .inner
            .plain
            .encode_fast(text, false)
            .map_err(|e| self.refuse(e))?;
        let ids = encoding.get_ids();
        if ids.iter().any(|id| self.inner.forbidden.contains_key(id)) {
            return self.encode_in_pieces(text);
        }
        Ok(ids.to_vec())
    }

    /// Encodes text of the prompt format: special tokens written in it are recognised, none is
    /// added.
    ///
    /// # Errors
    /// [`EngineError::Tokenizer`] when the tokenizer refuses the text.
    pub fn encode_template(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let encoding = self
            .inner
            .template
            .tokenizer()
            .encode_fast(text, false)
            .map_err(|e| self.refuse(e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`. Bytes that are not UTF-8 come out as U+FFFD, ids outside the vocabulary
    /// as nothing.
    ///
    /// # Errors
    /// [`EngineError::Tokenizer`] when the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, EngineError> {
        let template = &self.inner.template;
        let tokens: Vec<String> = match skip_special {
            true => ids
                .iter()
                .filter_map(|id| template.text_token(*id))
                .collect(),
            false => ids.iter().filter_map(|id| template.token(*id)).collect(),
        };
        template.decode(&tokens)
    }

    /// Number of ids [`Self::encode_plain`] gives; for text it refuses, the number of bytes, which
    /// is never less.
    #[must_use]
    pub fn token_count_plain(&self, text: &str) -> usize {
        self.encode_plain(text).map_or(text.len(), |ids| ids.len())
    }

    /// A hash over the files that decide which ids a text gets.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.inner.hash
    }

    /// The token that opens a sequence, as text, if the files name one.
    #[must_use]
    pub fn bos_token(&self) -> Option<&str> {
        self.named_token("bos_token")
    }

    /// The token that ends a sequence, as text, if the files name one.
    #[must_use]
    pub fn eos_token(&self) -> Option<&str> {
        self.named_token("eos_token")
    }

    /// The special tokens that transformers puts before a text that is not a chat, as text: BOS
    /// if `add_bos_token` in `tokenizer_config.json` says so; without that key, what the
    /// post-processor of `tokenizer.json` adds. Tokens after the text (`add_eos_token`) are left
    /// out, because the text is to be continued.
    #[must_use]
    pub fn opening(&self) -> &str {
        &self.inner.opening
    }

    /// The id of the token that ends a sequence, if the files name one that exists.
    pub(crate) fn eos_id(&self) -> Option<u32> {
        self.inner
            .template
            .tokenizer()
            .token_to_id(self.eos_token()?)
    }

    /// Checks that a model with the given `vocab_size` has a row for each id that text can become
    /// and for the token that ends a sequence. Other added tokens may be beyond it: models exist
    /// whose tokenizer has one more for images, or for padding.
    ///
    /// # Errors
    /// [`EngineError::UnsupportedModel`] about `vocab_size` in the `config.json` at `path`.
    pub(crate) fn check_rows(&self, vocab_size: usize, path: &Path) -> Result<(), EngineError> {
        let words = self.inner.plain.get_vocab(false).into_values();
        let mut used = words
            .filter(|id| !self.inner.forbidden.contains_key(id))
            .chain(self.eos_id());
        match used.find(|id| *id as usize >= vocab_size) {
            Some(id) => Err(EngineError::unsupported(
                path,
                "vocab_size",
                format!(
                    "is {vocab_size}, but {} gives {:?} the id {id}; tokenizer and weights do not \
                     belong together",
                    self.inner.template.path().display(),
                    self.inner.template.token(id).unwrap_or_default()
                ),
            )),
            None => Ok(()),
        }
    }

    /// The plain instance, to size chunks with: it has no added tokens.
    #[must_use]
    pub fn plain_tokenizer(&self) -> &Tokenizer {
        &self.inner.plain
    }

    /// A detokeniser for one answer, which leaves special tokens out.
    #[must_use]
    pub fn detokenizer(&self) -> Detokenizer {
        Detokenizer::new(self.inner.template.clone())
    }

    /// Roles and texts of the named special tokens, for chat templates.
    pub(super) fn named_tokens(&self) -> &BTreeMap<&'static str, String> {
        &self.inner.named_tokens
    }

    #[cfg(test)]
    pub(super) fn decoder(&self) -> &TokenDecoder {
        &self.inner.template
    }

    fn named_token(&self, role: &str) -> Option<&str> {
        self.inner.named_tokens.get(role).map(String::as_str)
    }

    /// For vocabularies that hold the spelling of an added token as an ordinary entry: cuts the
    /// text inside each such spelling and encodes the pieces, until no added token comes out.
    fn encode_in_pieces(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let mut ids = Vec::new();
        let mut pieces = vec![text]; // a stack, with the first piece of the text on top
        while let Some(piece) = pieces.pop() {
            let encoding = self
                .inner
                .plain
                .encode(piece, false)
                .map_err(|e| self.refuse(e))?;
            let mut cuts = Vec::new();
            for (id, span) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
                if let Some(token) = self.inner.forbidden.get(id) {
                    cuts.push(cut_inside(piece, *span).ok_or_else(|| {
                        self.refuse(format!("text contains {token:?}, a special token"))
                    })?);
                }
            }
            if cuts.is_empty() {
                ids.extend_from_slice(encoding.get_ids());
                continue;
            }
            let mut end = piece.len();
            for cut in cuts.into_iter().rev() {
                pieces.push(&piece[cut..end]);
                end = cut;
            }
            pieces.push(&piece[..end]);
        }
        Ok(ids)
    }

    fn refuse(&self, message: impl ToString) -> EngineError {
        EngineError::tokenizer(self.inner.template.path(), message.to_string())
    }
}

/// Whether a token that is not special can mean nothing but its text: one character, or white space
/// (Gemma has tokens for runs of line breaks, which any document may contain).
fn means_itself(token: &str) -> bool {
    token.chars().count() <= 1 || token.chars().all(|c| c.is_whitespace() || c == '\u{2581}')
}

/// The character boundary after the first character of `span`, if it lies inside the span.
fn cut_inside(text: &str, (start, end): (usize, usize)) -> Option<usize> {
    let first = text.get(start..end)?.chars().next()?;
    let cut = start + first.len_utf8();
    (cut < end).then_some(cut)
}

/// Truncation would lose text silently, padding would add ids and BPE dropout is random: settings
/// of training that a file may still carry.
fn without_side_effects(mut definition: Value) -> Value {
    if let Some(root) = definition.as_object_mut() {
        root.insert("truncation".to_owned(), Value::Null);
        root.insert("padding".to_owned(), Value::Null);
        if let Some(Value::Object(model)) = root.get_mut("model")
            && model.contains_key("dropout")
        {
            model.insert("dropout".to_owned(), Value::Null);
        }
    }
    definition
}

/// `set_encode_special_tokens` would leave added tokens that are not special, such as `<think>`.
fn without_added_tokens(mut definition: Value) -> Value {
    if let Some(root) = definition.as_object_mut() {
        root.insert("added_tokens".to_owned(), json!([]));
    }
    definition
}

fn instance(definition: &Value, path: &Path) -> Result<Tokenizer, EngineError> {
    definition
        .to_string()
        .parse()
        .map_err(|error: tokenizers::Error| EngineError::tokenizer(path, error.to_string()))
}

/// Each file is hashed with its length, so that no two sets of files give the same bytes.
fn hash(tokenizer: &[u8], special_tokens: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for bytes in [tokenizer, special_tokens] {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests;
