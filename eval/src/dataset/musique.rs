//! MuSiQue as the scripts published with the CacheBlend paper read it: one JSON list of
//! `{"question": .., "answers": [..], "ctxs": [{"title": .., "text": ..}]}`. Their 2WikiMQA file
//! has the same shape. The scripts also lower the first letter of a question, which is left out
//! here: prompts follow the model's own format.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::collector::Collector;
use super::{Dataset, Example, Task};

/// As the paper asks (arXiv 2405.16444).
const INSTRUCTION: &str = "Answer within 5 words.";
/// As the scripts decode.
const MAX_TOKENS: usize = 32;

#[derive(Deserialize)]
#[serde(expecting = "an object {question, answers, ctxs}")]
struct Item {
    question: String,
    answers: Vec<String>,
    ctxs: Vec<Passage>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object {title, text}")]
struct Passage {
    #[serde(default)]
    title: String,
    text: String,
}

/// Reads up to `limit` examples. Their ids are their places in the list, counted from 1.
pub(super) fn read(bytes: &[u8], path: &Path, limit: Option<usize>) -> anyhow::Result<Dataset> {
    let items: Vec<Value> = serde_json::from_slice(bytes)
        .context("the musique format is one JSON list of {question, answers, ctxs}")?;
    let collector = Collector::fill(limit, (1..).zip(items), example);
    collector.finish(path, Task::ShortAnswer, Some(INSTRUCTION))
}

fn example(place: usize, item: Value) -> anyhow::Result<Example> {
    // serde takes an array of the fields' values, in order, for a struct too.
    ensure!(item.is_object(), "it is not an object");
    let item = Item::deserialize(item)?;
    Ok(Example {
        id: place.to_string(),
        kind: String::new(),
        question: item.question,
        answers: item.answers,
        documents: item.ctxs.into_iter().map(document).collect(),
        max_tokens: MAX_TOKENS,
    })
}

/// Title and text as the scripts join them; most titles are empty.
fn document(passage: Passage) -> String {
    match passage.title.trim() {
        "" => passage.text,
        title => format!("{title}\n\n{}", passage.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"[
        {"question": "Where was the author of Skye Bound educated?", "answers": ["Tor College"],
         "ctxs": [{"title": "", "text": "skye bound is a play by ann gow."},
                  {"title": "Ann Gow", "text": "ann gow studied at tor college."}]},
        {"question": "Who?", "answers": "Tor", "ctxs": []},
        {"question": "Who?", "answers": ["Tor"], "ctxs": []},
        {"question": "Which bay?", "answers": ["Tor Bay"], "ctxs": [{"text": "tor bay."}]}]"#;

    fn read(text: &str, limit: Option<usize>) -> anyhow::Result<Dataset> {
        super::read(text.as_bytes(), Path::new("musique_s.json"), limit)
    }

    #[test]
    fn passages_become_documents_in_order() {
        let dataset = read(LIST, None).unwrap();
        let first = &dataset.examples[0];
        assert_eq!(first.id, "1");
        assert_eq!(first.answers, ["Tor College"]);
        assert_eq!(
            first.documents,
            [
                "skye bound is a play by ann gow.",
                "Ann Gow\n\nann gow studied at tor college."
            ]
        );
        assert_eq!(first.max_tokens, 32);
        assert_eq!(dataset.examples[1].id, "4");
        assert_eq!(dataset.name, "musique_s");
        assert_eq!(
            dataset.instruction.as_deref(),
            Some("Answer within 5 words.")
        );
    }

    #[test]
    fn bad_items_are_listed_by_their_place() {
        let dataset = read(LIST, None).unwrap();
        let [answers, documents] = &dataset.skipped[..] else {
            panic!("two items are bad: {:?}", dataset.skipped);
        };
        assert_eq!(answers.line, 2);
        assert!(
            answers.problem.contains("expected a sequence"),
            "{answers:?}"
        );
        assert_eq!(documents.line, 3);
        assert!(documents.problem.contains("no documents"), "{documents:?}");
    }

    #[test]
    fn the_limit_counts_good_items() {
        assert_eq!(read(LIST, Some(1)).unwrap().examples.len(), 1);
        assert!(read(LIST, Some(1)).unwrap().skipped.is_empty());
        assert_eq!(read(LIST, Some(2)).unwrap().examples.len(), 2);
    }

    #[test]
    fn a_file_that_is_no_list_is_an_error_with_its_place() {
        let error = format!("{:#}", read("[\n{\"question\": ]", None).unwrap_err());
        assert!(error.contains("one JSON list"), "{error}");
        assert!(error.contains("line 2 column 14"), "{error}");
        assert!(read("{}", None).is_err());
        let error = read("[]", None).unwrap_err().to_string();
        assert_eq!(error, "the file holds no questions");
    }
}
