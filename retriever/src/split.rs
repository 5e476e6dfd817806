//! Cuts a document into chunks of a bounded number of tokens, at the best border nearby.
//!
//! For every text: chunks are in order and do not overlap, every character that is not white space
//! is in a chunk, and each chunk tokenised alone has at most `max_tokens` tokens. The time is linear
//! in the length of the text: see [`window_bytes`].

mod cut;
mod span;
mod window;

use text_splitter::{ChunkConfig, MarkdownSplitter, TextSplitter};
use tokenizers::Tokenizer;

use crate::error::RetrieverError;
use crate::read::DocumentFormat;
pub use span::ChunkSpan;
use window::{Window, WindowSizer};

/// Smallest chunk budget: a character takes up to four byte-level tokens, and normalisation can
/// turn one into several characters.
pub const MIN_CHUNK_TOKENS: usize = 8;

/// Splits documents for one tokenizer and one budget.
#[derive(Debug)]
pub struct Splitter {
    tokenizer: Tokenizer,
    max_tokens: usize,
}

impl Splitter {
    /// A splitter that sizes chunks with a copy of `tokenizer`, which must add no special token.
    ///
    /// # Errors
    /// `ChunkBudgetTooSmall` below [`MIN_CHUNK_TOKENS`].
    pub fn new(tokenizer: &Tokenizer, max_tokens: usize) -> Result<Self, RetrieverError> {
        if max_tokens < MIN_CHUNK_TOKENS {
            return Err(RetrieverError::ChunkBudgetTooSmall {
                given: max_tokens,
                minimum: MIN_CHUNK_TOKENS,
            });
        }
        let mut tokenizer = tokenizer.clone();
        // Both are for training batches, and both would make the counts wrong.
        tokenizer.with_truncation(None).map_err(tokenizer_failed)?;
        tokenizer.with_padding(None);
        Ok(Self {
            tokenizer,
            max_tokens,
        })
    }

    /// The chunks of `text`; none for a blank text.
    ///
    /// # Errors
    /// `Tokenizer` if the tokenizer refuses the text; `CharacterTooLong` if one character is over
    /// the budget.
    pub fn split(
        &self,
        text: &str,
        format: DocumentFormat,
    ) -> Result<Vec<ChunkSpan>, RetrieverError> {
        let mut spans = Vec::new();
        let mut start = 0;
        while start < text.len() {
            let end = cut::border_at_or_before(text, start, window_bytes(self.max_tokens));
            let half = start + (end - start) / 2;
            let mut proposed = self.propose(text, ChunkSpan { start, end }, format)?;
            start = end;
            // The last chunk was cut short by the window, not by the text: begin the next window
            // with it, unless that would repeat most of the window. So the work stays linear.
            let last = proposed
                .last()
                .filter(|last| end < text.len() && last.start >= half);
            if let Some(last) = last {
                start = last.start;
                proposed.pop();
            }
            for span in proposed {
                self.fit(text, span, &mut spans)?;
            }
        }
        Ok(spans)
    }

    /// Number of tokens of `text` taken alone.
    fn count(&self, text: &str) -> Result<usize, RetrieverError> {
        self.tokenizer
            .encode_fast(text, false)
            .map(|e| e.len())
            .map_err(tokenizer_failed)
    }

    /// Chunks of one window, which cover its text but may be a little over the budget.
    fn propose(
        &self,
        text: &str,
        window: ChunkSpan,
        format: DocumentFormat,
    ) -> Result<Vec<ChunkSpan>, RetrieverError> {
        let part = &text[window.start..window.end];
        let tokens = Window::new(&self.tokenizer, part).map_err(tokenizer_failed)?;
        let config = ChunkConfig::new(self.max_tokens).with_sizer(WindowSizer(&tokens));
        let chunks: Vec<(usize, &str)> = match format {
            DocumentFormat::Text => TextSplitter::new(config).chunk_indices(part).collect(),
            DocumentFormat::Markdown => MarkdownSplitter::new(config).chunk_indices(part).collect(),
        };
        let spans = chunks.into_iter().map(|(at, chunk)| ChunkSpan {
            start: window.start + at,
            end: window.start + at + chunk.len(),
        });
        Ok(cut::cover(text, window, spans))
    }

    /// Adds `span` if it is within the budget, else its two halves. Offsets in the tokens of a
    /// longer text only estimate the size of a chunk, so its own tokens are counted here.
    fn fit(
        &self,
        text: &str,
        span: ChunkSpan,
        spans: &mut Vec<ChunkSpan>,
    ) -> Result<(), RetrieverError> {
        let tokens = self.count(&text[span.start..span.end])?;
        if tokens <= self.max_tokens {
            spans.push(span);
            return Ok(());
        }
        let Some(halves) = cut::halve(text, span) else {
            return Err(RetrieverError::CharacterTooLong {
                at_byte: span.start,
                tokens,
                max_tokens: self.max_tokens,
            });
        };
        for part in halves.into_iter().flatten() {
            self.fit(text, part, spans)?;
        }
        Ok(())
    }
}

/// Length of the text given to `text-splitter` at a time. Its work per chunk grows with the length
/// of the remaining text, so a 50 MB document in one piece would take hours. In windows of about
/// 16 chunks, each begun where the last whole chunk ended, the time is linear, and the cuts are the
/// same except in sections that are longer than a window.
fn window_bytes(max_tokens: usize) -> usize {
    const BYTES_PER_TOKEN: usize = 64; // 16 chunks at 4 bytes per token
    max_tokens
        .saturating_mul(BYTES_PER_TOKEN)
        .clamp(4 * 1024, 256 * 1024)
}

fn tokenizer_failed(error: tokenizers::Error) -> RetrieverError {
    RetrieverError::Tokenizer {
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_over_the_budget_is_cut_again() {
        let tokenizer = include_str!("../tests/fixtures/tokenizer.json")
            .parse()
            .unwrap();
        let splitter = Splitter::new(&tokenizer, 8).unwrap();
        let text = "The ferry leaves the harbour. It is red and quite old.";
        let mut spans = Vec::new();
        splitter
            .fit(
                text,
                ChunkSpan {
                    start: 0,
                    end: text.len(),
                },
                &mut spans,
            )
            .unwrap();
        let parts: Vec<&str> = spans
            .iter()
            .map(|span| &text[span.start..span.end])
            .collect();
        assert!(parts.len() > 1 && parts.iter().all(|part| splitter.count(part).unwrap() <= 8));
        assert_eq!(
            parts.join(" "),
            text,
            "only the blanks at the cuts are left out"
        );
    }
}
