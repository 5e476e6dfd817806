//! Token ids to text while they are generated. Text is emitted as soon as its characters are
//! complete, so a multi-byte character never comes out in parts; bytes that are not UTF-8 come out
//! as U+FFFD. The pieces put together are the text of all ids.

use super::bytes::OpenEnd;
use super::token_decoder::TokenDecoder;
use crate::error::EngineError;

/// Stands for all tokens before the window: decoders treat the first token of a sequence specially
/// (its leading space, for example), and no token of the window is the first token.
const BEFORE_WINDOW: &str = "x";

/// The incremental detokeniser of one answer.
///
/// It decodes a window of a few tokens: a stand-in for all tokens before them, the last token emitted, because
/// some decoders write what is between two tokens with the second one, and the tokens of a character
/// that is not complete yet, of which there are at most three.
#[derive(Debug)]
pub struct Detokenizer {
    decoder: TokenDecoder,
    window: Vec<String>,
    /// The beginning of the window's text, which was emitted before.
    given: String,
}

impl Detokenizer {
    pub(super) fn new(decoder: TokenDecoder) -> Self {
        Self {
            decoder,
            window: Vec::new(),
            given: String::new(),
        }
    }

    /// Takes the next id; returns the text that became complete, if any. Special tokens and ids
    /// outside the vocabulary have no text.
    ///
    /// # Errors
    /// [`EngineError::Tokenizer`] when the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, EngineError> {
        let Some(token) = self.decoder.text_token(id) else {
            return Ok(None);
        };
        self.window.push(token);
        let open = self.decoder.open_end(&self.window);
        let complete = self.complete_text(open)?;
        let delta = beyond(&complete, &self.given).to_owned();
        self.given = complete;
        self.shrink(open)?;
        Ok((!delta.is_empty()).then_some(delta))
    }

    /// The rest: bytes of a character that was never completed, as U+FFFD.
    ///
    /// # Errors
    /// [`EngineError::Tokenizer`] when the tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<String, EngineError> {
        let text = self.decoder.decode(&self.window)?;
        self.window.clear();
        let given = std::mem::take(&mut self.given);
        Ok(beyond(&text, &given).to_owned())
    }

    /// The window's text without the character it may end in.
    fn complete_text(&self, open: Option<OpenEnd>) -> Result<String, EngineError> {
        let mut text = self.decoder.decode(&self.window)?;
        for _ in 0..open.map_or(0, |open| open.n_replacements) {
            if !text.ends_with(char::REPLACEMENT_CHARACTER) {
                break;
            }
            text.pop();
        }
        Ok(text)
    }

    /// Drops all tokens except the last one emitted and those of an open character.
    fn shrink(&mut self, open: Option<OpenEnd>) -> Result<(), EngineError> {
        let n_kept = 1 + open.map_or(0, |open| open.n_tokens);
        if self.window.len() <= n_kept {
            return Ok(());
        }
        let n_dropped = self.window.len() - n_kept;
        self.window.splice(..n_dropped, [BEFORE_WINDOW.to_owned()]);
        self.given = self.complete_text(open)?;
        Ok(())
    }
}

/// What `text` has beyond `given`. With a later token, a decoder may change text that was already
/// emitted; what comes after the change is kept.
fn beyond<'t>(text: &'t str, given: &str) -> &'t str {
    let same = text.chars().zip(given.chars()).take_while(|(a, b)| a == b);
    let n_bytes = same.map(|(a, _)| a.len_utf8()).sum();
    &text[n_bytes..]
}

#[cfg(test)]
mod tests;
