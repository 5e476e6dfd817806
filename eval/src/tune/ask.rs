//! What is asked: questions of a file, or the first words of chunks of the corpus itself, and which of them choose.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use anyhow::{Context as _, ensure};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use crate::dataset::{lines, parse_line};

/// Words of a chunk that are asked for.
const MAX_WORDS: usize = 12;
/// One question in this many is kept back to confirm the choice.
const CONFIRM_PART: usize = 3;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct Ask {
    pub(super) question: String,
    /// Any of these is right; without any, only fidelity to full prefill counts.
    #[serde(default)]
    pub(super) answers: Vec<String>,
    /// The context it is asked over; retrieved if empty.
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
    /// At random, the same for the same seed: files are often sorted. Questions about one chunk, or of one text, stay
    /// together: what was chosen on some would confirm itself on the others. Either part holds one at least.
    pub(super) fn new(asks: Vec<Ask>, seed: u64) -> anyhow::Result<Self> {
        let mut groups = by_source(asks);
        ensure!(
            groups.len() >= 2,
            "a choice is confirmed on questions it was not made on, and there is only one question, or all are about one \
             chunk; give more with --questions FILE, or a larger --limit"
        );
        groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let n_asks: usize = groups.iter().map(Vec::len).sum();
        let mut room = (n_asks / CONFIRM_PART).max(1);
        let fits = |group: &Vec<Ask>| {
            let rest = room.checked_sub(group.len());
            room = rest.unwrap_or(room);
            rest.is_some()
        };
        let (mut confirm, mut choose): (Vec<_>, Vec<_>) = groups.into_iter().partition(fits);
        if confirm.is_empty() {
            choose.sort_by_key(|group| std::cmp::Reverse(group.len()));
            confirm.extend(choose.pop());
        }
        Ok(Self {
            choose: choose.concat(),
            confirm: confirm.concat(),
        })
    }
}

/// Groups of questions about the same chunk, by the first that is named, else of the same text; in a fixed order.
fn by_source(asks: Vec<Ask>) -> Vec<Vec<Ask>> {
    let mut groups: BTreeMap<(bool, String), Vec<Ask>> = BTreeMap::new();
    for ask in asks {
        let source = match ask.gold_chunks.first() {
            Some(gold) => (true, gold.clone()),
            None => (false, ask.question.trim().to_owned()),
        };
        groups.entry(source).or_default().push(ask);
    }
    groups.into_values().collect()
}

/// Reads up to `limit` questions of a JSONL file; blank lines are skipped, and a question that is there twice counts
/// once.
pub(super) fn read(path: &Path, limit: usize) -> anyhow::Result<Vec<Ask>> {
    let bytes = fs_err::read(path).context("read --questions")?;
    let (mut asks, mut known) = (Vec::new(), HashSet::new());
    for (number, line) in lines(&bytes) {
        if asks.len() == limit {
            break;
        }
        let ask = parse(line).with_context(|| format!("{}:{number}", path.display()))?;
        if known.insert(ask.clone()) {
            asks.push(ask);
        }
    }
    ensure!(!asks.is_empty(), "{} holds no questions", path.display());
    Ok(asks)
}

fn parse(line: &[u8]) -> anyhow::Result<Ask> {
    let ask: Ask = parse_line(line)?;
    ensure!(!ask.question.trim().is_empty(), "field `question` is empty");
    Ok(ask)
}

/// The first words of a text; `None` if there are none.
pub(super) fn opening(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().take(MAX_WORDS).collect();
    let opening = words.join(" ");
    opening
        .chars()
        .any(char::is_alphanumeric)
        .then_some(opening)
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
            ("[\"Who?\", [\"x\"]]", "an array, not an object"),
        ] {
            let error = format!("{:#}", read(file(text).path(), 9).unwrap_err());
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_question_that_stands_there_twice_counts_once() {
        let text = "{\"question\": \"Who?\"}\n{\"question\": \"Who?\", \"answers\": []}\n\
                    {\"question\": \"Who?\", \"answers\": [\"x\"]}\n";
        assert_eq!(read(file(text).path(), 9).unwrap().len(), 2);
        assert_eq!(read(file(text).path(), 2).unwrap().len(), 2);
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

    /// A question about a chunk, where one is named.
    fn ask(question: &str, gold: Option<&str>) -> Ask {
        Ask {
            question: question.to_owned(),
            answers: Vec::new(),
            context_chunks: Vec::new(),
            gold_chunks: gold.map(str::to_owned).into_iter().collect(),
        }
    }

    #[test]
    fn no_question_both_chooses_and_confirms() {
        let numbered = |n: usize| ask(&n.to_string(), None);
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

    #[test]
    fn questions_about_one_chunk_or_of_one_text_stay_together() {
        for seed in 0..20 {
            let numbers = 0..30;
            let asks = numbers.map(|n| ask(&n.to_string(), Some(&(n % 7).to_string())));
            let same = ["Who?", "Who? "].map(|question| ask(question, None));
            let of = Split::new(asks.chain(same).collect(), seed).unwrap();
            let sources = |asks: &[Ask]| -> HashSet<String> {
                let source = |ask: &Ask| match ask.gold_chunks.first() {
                    Some(gold) => gold.clone(),
                    None => ask.question.trim().to_owned(),
                };
                asks.iter().map(source).collect()
            };
            assert!(sources(&of.choose).is_disjoint(&sources(&of.confirm)));
            assert!(!of.confirm.is_empty() && of.confirm.len() <= 10);
            assert_eq!(of.choose.len() + of.confirm.len(), 32);
        }
        let of_one = |n: usize| (0..n).map(|n| ask(&n.to_string(), Some("a")));
        let error = Split::new(of_one(9).collect(), 1).err().unwrap();
        assert!(error.to_string().contains("about one chunk"), "{error}");
        // The smaller part confirms, where neither fits a third.
        let other = [ask("x", Some("b")), ask("y", Some("b"))];
        let of = Split::new(of_one(3).chain(other).collect(), 1).unwrap();
        assert_eq!((of.choose.len(), of.confirm.len()), (3, 2));
    }
}
