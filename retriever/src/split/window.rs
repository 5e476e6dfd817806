//! Sizes of substrings from one tokenisation.
//!
//! `text-splitter` asks for the size of many overlapping substrings of a text. Tokenising each of
//! them costs ten times the text; counting the tokens that lie inside costs two binary searches.

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

    /// Where `part` lies, if it is a slice of this very text.
    fn offset_of(&self, part: &str) -> Option<usize> {
        let start = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)?;
        let end = start.checked_add(part.len())?;
        (end <= self.text.len()).then_some(start)
    }
}

/// What `text-splitter` asks.
pub(super) struct WindowSizer<'w>(pub(super) &'w Window<'w>);

impl ChunkSizer for WindowSizer<'_> {
    /// Tokens of a slice of the window. Text from elsewhere counts one token per byte, which is
    /// too many for any tokenizer in use and so only makes a chunk shorter.
    fn size(&self, chunk: &str) -> usize {
        match self.0.offset_of(chunk) {
            Some(start) => self.0.tokens_in(start, start + chunk.len()),
            None => chunk.len(),
        }
    }
}
