//! What is asked: questions of a file, or the first words of chunks of the corpus itself, and which of them choose.

use std::path::Path;

use anyhow::{Context as _, ensure};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// Words of a chunk that are asked for.
const MAX_WORDS: usize = 12;
/// One question in so many is kept back to confirm the choice.
const CONFIRM_PART: usize = 3;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Ask {
    pub(super) question: String,
    /// Any of these is right; without any, only fidelity to full prefill counts.
    #[serde(default)]
    pub(super) answers: Vec<String>,
    /// The context it is asked over; retrieved where empty.
    #[serde(default)]
    pub(super) context_chunks: Vec<String>,
    /// Chunks that hold the answer; may be absent.
    #[serde(default)]
    pub(super) gold_chunks: Vec<String>,
}

/// Questions to choose on, and others to confirm the choice on.
pub(super) struct Split {
    pub(super) choose: Vec<Ask>,
    pub(super) confirm: Vec<Ask>,
}

impl Split {
    /// At random, the same for the same seed: files are often sorted. Either part holds one at least.
    ///
    /// # Errors
    /// Where there are fewer than two.
    pub(super) fn new(mut asks: Vec<Ask>, seed: u64) -> anyhow::Result<Self> {
        ensure!(
            asks.len() >= 2,
            "a choice is confirmed on questions it was not made on, and there is only one question; give more with \
             --questions FILE, or a larger --limit"
        );
        asks.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let n_confirm = (asks.len() / CONFIRM_PART).max(1);
        let confirm = asks.split_off(asks.len() - n_confirm);
        Ok(Self {
            choose: asks,
            confirm,
        })
    }
}

/// Reads up to `limit` questions of a JSONL file; blank lines are skipped.
///
/// # Errors
/// Names the file and the line.
pub(super) fn read(path: &Path, limit: usize) -> anyhow::Result<Vec<Ask>> {
    let text = fs_err::read_to_string(path).context("read --questions")?;
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty());
    let asks: Vec<Ask> = lines
        .take(limit)
        .map(|(number, line)| parse(line).with_context(|| format!("{}:{number}", path.display())))
        .collect::<Result<_, _>>()?;
    ensure!(!asks.is_empty(), "{} holds no questions", path.display());
    Ok(asks)
}

fn parse(line: &str) -> anyhow::Result<Ask> {
    let ask: Ask = serde_json::from_str(line)?;
    ensure!(!ask.question.trim().is_empty(), "field `question` is empty");
    Ok(ask)
}

/// The first words of a text; `None` where there are none.
pub(super) fn opening(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().take(MAX_WORDS).collect();
    let has_letters = words
        .iter()
        .any(|word| word.chars().any(char::is_alphanumeric));
    has_letters.then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn answers_and_context_may_be_absent() {
        let text = "{\"question\": \"Who?\"}\n\n{\"question\": \"Where?\", \"answers\": [\"x\"]}\n";
        let asks = read(file(text).path(), 9).unwrap();
        assert_eq!(asks.len(), 2);
        assert!(asks[0].answers.is_empty() && asks[0].context_chunks.is_empty());
        assert_eq!(asks[1].answers, ["x"]);
        assert_eq!(read(file(text).path(), 1).unwrap().len(), 1);
    }

    #[test]
    fn bad_lines_are_named() {
        for (text, reason) in [
            ("{\"question\": \" \"}", "field `question` is empty"),
            ("{}", "missing field `question`"),
            ("\n", "holds no questions"),
        ] {
            let error = format!("{:#}", read(file(text).path(), 9).unwrap_err());
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_chunk_is_asked_for_by_its_first_words() {
        assert_eq!(opening(" One  two.\n").as_deref(), Some("One two."));
        assert_eq!(
            opening(&"word ".repeat(40)).unwrap().split(' ').count(),
            MAX_WORDS
        );
        assert_eq!(opening(" -- \n"), None);
    }

    #[test]
    fn no_question_both_chooses_and_confirms() {
        let numbered = |n: usize| Ask {
            question: n.to_string(),
            answers: Vec::new(),
            context_chunks: Vec::new(),
            gold_chunks: Vec::new(),
        };
        let split = |n: usize, seed| Split::new((0..n).map(numbered).collect(), seed);
        let of = split(30, 1).unwrap();
        assert_eq!((of.choose.len(), of.confirm.len()), (20, 10));
        assert!(of.confirm.iter().all(|ask| !of.choose.contains(ask)));
        assert_eq!(of.confirm, split(30, 1).unwrap().confirm);
        assert_ne!(of.confirm, split(30, 2).unwrap().confirm);
        assert_ne!(
            of.choose[..3],
            (0..3).map(numbered).collect::<Vec<_>>(),
            "in random order"
        );
        let two = split(2, 1).unwrap();
        assert_eq!((two.choose.len(), two.confirm.len()), (1, 1));
        let error = split(1, 1).err().unwrap().to_string();
        assert!(error.contains("only one question"), "{error}");
    }
}
