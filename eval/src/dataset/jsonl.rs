//! Plain questions over documents, one JSON object per line:
//! `{"question": .., "answers": [..], "documents": [..]}` and optionally `id`, `type`,
//! `max_tokens`. A document is a string or an object with a `text`.

use std::path::Path;

use anyhow::bail;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::collector::Collector;
use super::{Dataset, Example, Task, json};

/// The longest answer where a line does not say: LongBench's for short answers.
const DEFAULT_MAX_TOKENS: usize = 32;

#[derive(Deserialize)]
#[serde(expecting = "an object {question, answers, documents}")]
struct Line {
    id: Option<Id>,
    #[serde(default, rename = "type")]
    kind: String,
    question: String,
    answers: Vec<String>,
    documents: Vec<Document>,
    max_tokens: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "an id is a string or a number")]
enum Id {
    Text(String),
    Number(serde_json::Number),
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a document is a string or an object with a string `text`"
)]
enum Document {
    Text(String),
    /// A struct with a `text` would take an array with one text in it too.
    Object(Map<String, Value>),
}

/// Reads up to `limit` examples; an example without an id gets its line's number.
pub(super) fn read(bytes: &[u8], path: &Path, limit: Option<usize>) -> anyhow::Result<Dataset> {
    let collector = Collector::fill(limit, json::lines(bytes), example);
    collector.finish(path, Task::ShortAnswer, None)
}

fn example(number: usize, line: &[u8]) -> anyhow::Result<Example> {
    let line: Line = json::parse_line(line)?;
    let documents = line.documents.into_iter().map(text);
    Ok(Example {
        id: match line.id {
            Some(Id::Text(id)) => id,
            Some(Id::Number(id)) => id.to_string(),
            None => number.to_string(),
        },
        kind: line.kind,
        question: line.question,
        answers: line.answers,
        documents: documents.collect::<Result<_, _>>()?,
        max_tokens: line.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
    })
}

fn text(document: Document) -> anyhow::Result<String> {
    let text = match document {
        Document::Text(text) => return Ok(text),
        Document::Object(mut fields) => fields.remove("text"),
    };
    match text {
        Some(Value::String(text)) => Ok(text),
        _ => bail!("a document is a string or an object with a string `text`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"id": "a", "type": "local", "question": "Who?", "answers": ["Tor"],
        "documents": ["One.", {"text": "Two.", "title": "T"}], "max_tokens": 5, "more": 1}"#;
    const BARE: &str = r#"{"question": "Who?", "answers": ["Tor"], "documents": ["One."]}"#;

    fn read(lines: &[&str], limit: Option<usize>) -> anyhow::Result<Dataset> {
        let lines: Vec<String> = lines.iter().map(|line| line.replace('\n', " ")).collect();
        super::read(lines.join("\n").as_bytes(), Path::new("plain.jsonl"), limit)
    }

    #[test]
    fn every_field_is_read_and_the_others_are_ignored() {
        let dataset = read(&[FULL], None).unwrap();
        let expected = Example {
            id: "a".to_owned(),
            kind: "local".to_owned(),
            question: "Who?".to_owned(),
            answers: vec!["Tor".to_owned()],
            documents: vec!["One.".to_owned(), "Two.".to_owned()],
            max_tokens: 5,
        };
        assert_eq!(dataset.examples, [expected]);
        assert_eq!(
            (dataset.name.as_str(), dataset.task),
            ("plain", Task::ShortAnswer)
        );
    }

    #[test]
    fn what_a_line_leaves_out_has_a_default() {
        let dataset = read(&["", BARE], None).unwrap();
        let [example] = &dataset.examples[..] else {
            panic!("one line is one example");
        };
        assert_eq!((example.id.as_str(), example.kind.as_str()), ("2", ""));
        assert_eq!(example.max_tokens, 32);
    }

    #[test]
    fn ids_may_be_numbers_but_not_be_shared() {
        let numbered = FULL.replace("\"a\"", "7");
        let dataset = read(&[&numbered, &numbered], None).unwrap();
        assert_eq!(dataset.examples[0].id, "7");
        assert_eq!(dataset.skipped[0].problem, "id `7` is that of line 1");
        let odd = FULL.replace("\"a\"", "[]");
        let error = read(&[&odd], None).unwrap_err().to_string();
        assert!(error.contains("an id is a string or a number"), "{error}");
    }

    #[test]
    fn bad_lines_are_listed_up_to_the_limit() {
        let number = &FULL.replace("\"One.\"", "1");
        let cut = &FULL[..40];
        let (listed, no_text) = (
            &FULL.replace("\"One.\"", "[\"One.\"]"),
            &FULL.replace("\"One.\"", "{\"title\": \"T\"}"),
        );
        let lines = [
            number,
            "[]",
            FULL,
            cut,
            listed,
            no_text,
            BARE,
            BARE,
            "not looked at",
        ];
        let dataset = read(&lines, Some(2)).unwrap();
        let ids: Vec<&str> = dataset.examples.iter().map(|e| e.id.as_str()).collect();
        assert_eq!(ids, ["a", "7"]);
        let problems: Vec<(usize, &str)> = dataset
            .skipped
            .iter()
            .map(|skipped| (skipped.line, skipped.problem.as_str()))
            .collect();
        assert_eq!(problems.len(), 5, "{problems:?}");
        for i in [0, 3, 4] {
            assert!(
                problems[i].1.contains("a document is a string or"),
                "{problems:?}"
            );
        }
        assert!(
            problems[1].1.contains("column 1: it is an array"),
            "{problems:?}"
        );
        assert!(problems[2].1.contains("column 40: EOF"), "{problems:?}");
        let places: Vec<usize> = problems.iter().map(|problem| problem.0).collect();
        assert_eq!(places, [1, 2, 4, 5, 6]);
    }

    #[test]
    fn without_a_good_line_there_is_no_dataset() {
        let error = read(&["{}", "x"], None).unwrap_err().to_string();
        assert!(
            error.contains("line 1: column 2: missing field `question`"),
            "{error}"
        );
        assert!(
            error.contains("line 2: column 1: expected value"),
            "{error}"
        );
    }
}
