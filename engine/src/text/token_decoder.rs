//! Token ids to text: the tokens of the vocabulary and the decoder that joins them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenizers::{Decoder, Tokenizer};

use super::bytes::{ByteSpelling, OpenEnd};
use crate::error::EngineError;

/// The decoding half of a model's tokenizer. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct TokenDecoder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    tokenizer: Tokenizer,
    bytes: ByteSpelling,
}

impl TokenDecoder {
    /// The decoder of a tokenizer with its added tokens; `path` is only named in errors.
    pub(super) fn new(tokenizer: Tokenizer, path: &Path) -> Self {
        let inner = Inner {
            path: path.to_owned(),
            bytes: ByteSpelling::of(tokenizer.get_decoder()),
            tokenizer,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    pub(super) fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The token of `id`, unless it is outside the vocabulary.
    pub(super) fn token(&self, id: u32) -> Option<String> {
        self.inner.tokenizer.id_to_token(id)
    }

    /// The token of `id`, unless it is special or outside the vocabulary.
    pub(super) fn text_token(&self, id: u32) -> Option<String> {
        let added = self.inner.tokenizer.get_added_vocabulary();
        self.token(id)
            .filter(|token| !added.is_special_token(token))
    }

    /// The text of tokens; several decoders fail on an empty list, so that case is handled here.
    ///
    /// # Errors
    /// [`EngineError::Tokenizer`] when the tokenizer's decoder fails.
    pub(super) fn decode(&self, tokens: &[String]) -> Result<String, EngineError> {
        if tokens.is_empty() {
            return Ok(String::new());
        }
        let tokens = self.inner.bytes.without_bad_bytes(tokens);
        match self.inner.tokenizer.get_decoder() {
            Some(decoder) => decoder
                .decode(tokens)
                .map_err(|error| EngineError::tokenizer(&self.inner.path, error.to_string())),
            None => Ok(tokens.join(" ")),
        }
    }

    /// Where the tokens end inside a character.
    pub(super) fn open_end(&self, tokens: &[String]) -> Option<OpenEnd> {
        self.inner.bytes.open_end(tokens)
    }
}
