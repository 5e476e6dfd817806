//! What is asked: questions of a file, or the first words of chunks of the corpus itself.

use std::path::Path;

use anyhow::{Context as _, ensure};
use ragweave_server::components::Components;
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// Words of a chunk that are asked for.
const MAX_WORDS: usize = 12;

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

/// The first words of up to `limit` chunks from all over the corpus, as questions without answers.
///
/// # Errors
/// Where the store cannot be read, or holds no chunk with a word in it.
pub(super) fn from_corpus(
    components: &Components,
    limit: usize,
    seed: u64,
) -> anyhow::Result<Vec<Ask>> {
    let mut ids = Vec::new();
    components.store.for_each_vector(|row| {
        ids.push(row.chunk_id);
        Ok(())
    })?;
    ids.sort_unstable();
    ids.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut asks = Vec::new();
    for id in ids {
        if asks.len() == limit {
            break;
        }
        let Some(chunk) = components.store.chunk(&id)? else {
            continue;
        };
        asks.extend(opening(&chunk.text).map(|question| Ask {
            question,
            answers: Vec::new(),
            context_chunks: Vec::new(),
        }));
    }
    ensure!(
        !asks.is_empty(),
        "the data directory holds no text to ask about; ingest documents first"
    );
    Ok(asks)
}

/// The first words of a text; `None` where there are none.
fn opening(text: &str) -> Option<String> {
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
}
