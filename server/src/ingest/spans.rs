//! Where a document is cut into chunks.

use std::ops::Range;

use ragweave_retriever::{SourceDocument, Splitter};

use super::error::IngestError;
use crate::prompt::PromptFormat;

/// A chunk of a document.
pub(crate) struct FittedSpan {
    /// Its place in the text, bytes.
    pub(crate) range: Range<usize>,
    /// As it will be used, wrapper included.
    pub(crate) token_ids: Vec<u32>,
}

/// The chunks. The splitter counts the text alone. At the border between text and wrapper a merge can
/// break and cost more tokens than were reserved, so each chunk is counted again as it will be used.
///
/// # Errors
/// A text that the splitter or the tokenizer refuses, or a single character of more than `limit` tokens.
pub(crate) fn fitting(
    splitter: &Splitter,
    prompt: &PromptFormat,
    limit: usize,
    source: &SourceDocument,
) -> Result<Vec<FittedSpan>, IngestError> {
    let mut open: Vec<(usize, usize)> = splitter
        .split(&source.text, source.format)?
        .iter()
        .rev()
        .map(|span| (span.start, span.end))
        .collect();
    let mut spans = Vec::with_capacity(open.len());
    while let Some((start, end)) = open.pop() {
        let text = &source.text[start..end];
        let token_ids = prompt.chunk_ids(text)?;
        if token_ids.len() <= limit {
            spans.push(FittedSpan {
                range: start..end,
                token_ids,
            });
            continue;
        }
        let Some(middle) = middle(text) else {
            return Err(IngestError::TooLarge {
                bytes: text.len(),
                limit,
            });
        };
        open.push((start + middle, end));
        open.push((start, start + middle));
    }
    Ok(spans)
}

/// The blank nearest to the middle, else the nearest character boundary; `None` for a single character.
fn middle(text: &str) -> Option<usize> {
    let half = text.len() / 2;
    let distance = |at: &usize| at.abs_diff(half);
    let inner = |at: &usize| *at > 0 && *at < text.len();
    let blanks = text
        .char_indices()
        .filter(|(_, c)| c.is_whitespace())
        .map(|(at, _)| at);
    let borders = || text.char_indices().map(|(at, _)| at);
    blanks
        .filter(|at| inner(at) && !text[..*at].trim().is_empty() && !text[*at..].trim().is_empty())
        .min_by_key(distance)
        .or_else(|| borders().filter(inner).min_by_key(distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_a_blank_where_there_is_one_and_never_cuts_a_character() {
        assert_eq!(middle("ab cd efgh"), Some(5));
        assert_eq!(middle("abcd"), Some(2));
        assert_eq!(middle("ééé"), Some(2));
        assert_eq!(middle("é"), None);
        assert_eq!(middle(""), None);
    }
}
