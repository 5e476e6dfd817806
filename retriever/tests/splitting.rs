//! The splitter's promises on texts of every shape, with the demo model's byte-level tokenizer.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::sync::LazyLock;

use proptest::prelude::*;
use ragweave_retriever::{ChunkSpan, DocumentFormat, RetrieverError, Splitter};
use tokenizers::{Tokenizer, TruncationParams};

static TOKENIZER: LazyLock<Tokenizer> =
    LazyLock::new(|| include_str!("fixtures/tokenizer.json").parse().unwrap());

fn split(text: &str, format: DocumentFormat, max_tokens: usize) -> Vec<ChunkSpan> {
    Splitter::new(&TOKENIZER, max_tokens)
        .unwrap()
        .split(text, format)
        .unwrap()
}

fn n_tokens(text: &str) -> usize {
    TOKENIZER.encode_fast(text, false).unwrap().len()
}

/// Checks the three promises; returns the chunks' texts.
fn checked(text: &str, format: DocumentFormat, max_tokens: usize) -> Vec<&str> {
    let mut at = 0;
    let mut chunks = Vec::new();
    for span in split(text, format, max_tokens) {
        assert!(span.start >= at, "{span:?} begins before {at}");
        assert_eq!(
            text[at..span.start].trim(),
            "",
            "text left out before {span:?}"
        );
        let chunk = &text[span.start..span.end];
        assert!(!chunk.trim().is_empty(), "{span:?} is blank");
        assert!(n_tokens(chunk) <= max_tokens, "{span:?} is over the budget");
        chunks.push(chunk);
        at = span.end;
    }
    assert_eq!(text[at..].trim(), "", "text left out after {at}");
    chunks
}

#[test]
fn a_short_document_is_one_chunk() {
    assert_eq!(
        checked("  One short note. \n", DocumentFormat::Text, 64),
        ["One short note."]
    );
    assert!(checked("", DocumentFormat::Text, 64).is_empty());
    assert!(checked(" \n\n ", DocumentFormat::Markdown, 64).is_empty());
}

#[test]
fn cuts_fall_between_sentences() {
    let sentence = "The ferry leaves the harbour at nine in the morning. ";
    let text = sentence.repeat(100);
    let chunks = checked(&text, DocumentFormat::Text, n_tokens(sentence) * 4);
    assert!(
        chunks.len() >= 25 && chunks.len() < 40,
        "{} chunks",
        chunks.len()
    );
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk.starts_with("The") && chunk.ends_with('.'))
    );
}

#[test]
fn markdown_is_cut_before_headings() {
    let section = "## Harbour\n\nThe ferry leaves at nine. It is red.\n\n";
    let text = format!("# Town\n\n{}", section.repeat(20));
    let chunks = checked(&text, DocumentFormat::Markdown, n_tokens(section) + 12);
    assert!(
        chunks.len() >= 20 && chunks.iter().all(|chunk| chunk.starts_with('#')),
        "{chunks:?}"
    );
}

/// Windows overlap by a chunk so that where they end does not show: all chunks but the last are
/// nearly full, over a text of many windows.
#[test]
fn window_ends_leave_no_short_chunks() {
    let text = "A gull sat on the old stone pier. ".repeat(5_000);
    let chunks = checked(&text, DocumentFormat::Text, 128);
    let short = chunks.iter().filter(|chunk| n_tokens(chunk) < 96).count();
    assert!(short <= 1, "{short} of {} chunks are short", chunks.len());
}

#[test]
fn texts_without_borders_are_cut_at_characters() {
    for text in ["x".repeat(20_000), "é".repeat(10_000), "🦊".repeat(5_000)] {
        let chunks = checked(&text, DocumentFormat::Text, 16);
        assert_eq!(chunks.concat(), text);
        assert_eq!(checked(&text, DocumentFormat::Markdown, 16).concat(), text);
    }
}

#[test]
fn long_blanks_are_left_out() {
    let text = format!("{}alpha{}beta", " ".repeat(50_000), "\n ".repeat(50_000));
    assert_eq!(
        checked(&text, DocumentFormat::Text, 16).join(" "),
        "alpha beta"
    );
    assert_eq!(
        checked(&text, DocumentFormat::Markdown, 16)
            .join(" ")
            .replace("  ", ""),
        "alpha beta"
    );
}

#[test]
fn a_budget_that_cannot_hold_text_is_refused() {
    let refused = Splitter::new(&TOKENIZER, 7).unwrap_err();
    assert_eq!(
        refused,
        RetrieverError::ChunkBudgetTooSmall {
            given: 7,
            minimum: 8
        }
    );
}

/// A truncating tokenizer would make every text look short.
#[test]
fn truncation_of_the_tokenizer_is_ignored() {
    let mut truncating = TOKENIZER.clone();
    let params = TruncationParams {
        max_length: 4,
        ..TruncationParams::default()
    };
    truncating.with_truncation(Some(params)).unwrap();
    let text = "The ferry leaves the harbour at nine. ".repeat(20);
    let splitter = Splitter::new(&truncating, 32).unwrap();
    let spans = splitter.split(&text, DocumentFormat::Text).unwrap();
    assert_eq!(spans, split(&text, DocumentFormat::Text, 32));
    assert!(spans.len() > 1);
}

/// Pieces of text and markup in any order, which parsers dislike.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z]{1,12}",
        2 => Just(" ".to_owned()),
        1 => "[ \t\r\n]{1,4}",
        1 => Just("\n\n".to_owned()),
        1 => Just(". ".to_owned()),
        1 => "\\PC{1,8}",
        1 => prop::sample::select(vec![
            "# ", "\n## h\n", "```\n", "| a | b |\n|---|---|\n", "- ", "\n1. ", "> ", "[x](", "]: ",
            "**", "$$", "<div>", "&amp;", "[^1]", "---\n", "\u{a0}", "\u{2028}", "e\u{301}", "\0",
            "👩‍👩‍👧", "\u{fdfa}",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..400).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_text_is_covered_within_the_budget(text in soup(), max_tokens in 8usize..80) {
        checked(&text, DocumentFormat::Text, max_tokens);
        checked(&text, DocumentFormat::Markdown, max_tokens);
    }

    #[test]
    fn windows_do_not_matter_to_the_promises(text in soup(), times in 1usize..40) {
        let text = text.repeat(times);
        checked(&text, DocumentFormat::Text, 16);
        checked(&text, DocumentFormat::Markdown, 16);
    }
}
