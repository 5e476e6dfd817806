//! Token ids to text while they are generated. A piece of text is given out once its characters
//! are complete, so a multi-byte character never comes out in parts; the pieces put together are
//! the text of all ids.

use super::codec::TextCodec;
use crate::error::EngineError;

/// Tokens that may wait for a character to become complete. A character has at most four bytes, so
/// more tokens than this are bytes that are no UTF-8; they are given out as U+FFFD.
const MAX_PENDING_TOKENS: usize = 64;

/// The incremental detokeniser of one answer.
///
/// It decodes a short window that starts one piece before the unread tokens, because decoders
/// treat the first token of a sequence differently (a leading space, for one).
// The window of tokens:
//   [0, read)    given out before; kept only as context for the decoder
//   [read, end)  not yet given out: they end inside a character, or give no text yet
#[derive(Debug)]
pub struct Detokenizer {
    codec: TextCodec,
    window: Vec<u32>,
    read: usize,
}

impl Detokenizer {
    pub(super) fn new(codec: TextCodec) -> Self {
        Self {
            codec,
            window: Vec::new(),
            read: 0,
        }
    }

    /// Takes the next id; returns the text that became complete, if any.
    ///
    /// # Errors
    /// [`EngineError::Tokenizer`] when the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, EngineError> {
        if self.codec.is_special(id) {
            return Ok(None); // has no text, and must not grow the window
        }
        self.window.push(id);
        let (before, text) = self.decode_window()?;
        let n_pending = self.window.len() - self.read;
        let incomplete = text.ends_with(char::REPLACEMENT_CHARACTER);
        if incomplete && n_pending <= MAX_PENDING_TOKENS {
            return Ok(None);
        }
        let delta = unread(&before, &text);
        if delta.is_empty() {
            return Ok(None);
        }
        self.window.drain(..self.read);
        self.read = self.window.len();
        Ok(Some(delta))
    }

    /// The rest: bytes of a character that was never completed, as U+FFFD.
    ///
    /// # Errors
    /// [`EngineError::Tokenizer`] when the tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<String, EngineError> {
        let (before, text) = self.decode_window()?;
        self.window.clear();
        self.read = 0;
        Ok(unread(&before, &text))
    }

    /// The text of the context alone and of the whole window.
    fn decode_window(&self) -> Result<(String, String), EngineError> {
        let before = self.codec.decode(&self.window[..self.read], true)?;
        Ok((before, self.codec.decode(&self.window, true)?))
    }
}

/// What `text` has beyond `before`; empty where the decoder gave less.
fn unread(before: &str, text: &str) -> String {
    text.get(before.len()..).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
