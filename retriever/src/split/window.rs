//! Sizes of substrings from one tokenisation.
//!
//! `text-splitter` asks for the size of many overlapping substrings of a text. Tokenising each of
//! them would cost ten times as much as tokenising the text once. Counting the tokens inside a
//! substring takes two binary searches.

use text_splitter::ChunkSizer;
use tokenizers::Tokenizer;

/// A text and the byte offsets of its tokens.
pub(super) struct Window<'t> {
    text: &'t str,
    /// `(start, end)` of each token, in bytes of `text`, in order.
    offsets: Vec<(usize, usize)>,
}

impl<'t> Window<'t> {
    pub(super) fn new(tokenizer: &Tokenizer, text: &'t str) -> tokenizers::Result<Self> {
        let encoding = tokenizer.encode(text, false)?;
        Ok(Self {
            text,
            offsets: encoding.get_offsets().to_vec(),
        })
    }

    /// Number of tokens that touch bytes `start..end`.
    fn tokens_in(&self, start: usize, end: usize) -> usize {
        let before = self.offsets.partition_point(|token| token.1 <= start);
        let until = self.offsets.partition_point(|token| token.0 < end);
        until.saturating_sub(before)
    }

    /// Where `part` begins, if it is a slice of this text.
    fn offset_of(&self, part: &str) -> Option<usize> {
        let start = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)?;
        let end = start.checked_add(part.len())?;
        (end <= self.text.len()).then_some(start)
    }
}

/// Answers `text-splitter`'s questions about sizes.
pub(super) struct WindowSizer<'w>(pub(super) &'w Window<'w>);

impl ChunkSizer for WindowSizer<'_> {
    /// Tokens of a slice of the window. Other text counts as one token per byte, which is more than
    /// any tokenizer in use makes, and so only makes a chunk shorter.
    fn size(&self, chunk: &str) -> usize {
        match self.0.offset_of(chunk) {
            Some(start) => self.0.tokens_in(start, start + chunk.len()),
            None => chunk.len(),
        }
    }
}
