//! Questions over named chunks of a data directory, one JSON object per line.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::json;

/// A question over named chunks. Further fields of a line are for its readers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Question {
    pub(crate) id: String,
    pub(crate) question: String,
    pub(crate) answers: Vec<String>,
    /// What kind of question it is; results are also given by kind.
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    /// Chunks that must be known to answer it; may be absent.
    #[serde(default)]
    pub(crate) gold_chunks: Vec<String>,
    /// The context it is asked over, in prompt order.
    pub(crate) context_chunks: Vec<String>,
}

/// Reads the first `limit` questions of a JSONL file; blank lines are skipped.
pub(crate) fn read_questions(path: &Path, limit: Option<usize>) -> anyhow::Result<Vec<Question>> {
    let bytes = fs_err::read(path).context("read --questions")?;
    let questions: Vec<Question> = json::lines(&bytes)
        .take(limit.unwrap_or(usize::MAX))
        .map(|(number, line)| parse(line).with_context(|| format!("{}:{number}", path.display())))
        .collect::<Result<_, _>>()?;
    if questions.is_empty() {
        bail!("{} holds no questions", path.display());
    }
    Ok(questions)
}

fn parse(line: &[u8]) -> anyhow::Result<Question> {
    let question: Question = json::parse_line(line)?;
    ensure!(
        !question.question.trim().is_empty(),
        "field `question` is empty"
    );
    ensure!(!question.answers.is_empty(), "field `answers` is empty");
    ensure!(
        !question.context_chunks.is_empty(),
        "field `context_chunks` is empty"
    );
    Ok(question)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"id": "a", "world": "W", "question": "Who?", "answers": ["Tor"],
        "type": "local", "gold_chunks": ["d#0"], "context_chunks": ["d#0", "d#1"]}"#;

    fn file(lines: &[&str]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: Vec<String> = lines.iter().map(|line| line.replace('\n', " ")).collect();
        fs_err::write(file.path(), text.join("\n")).unwrap();
        file
    }

    #[test]
    fn questions_are_read_up_to_the_limit_and_blank_lines_skipped() {
        let file = file(&[LINE, "", &LINE.replace("\"a\"", "\"b\""), LINE]);
        let questions = read_questions(file.path(), Some(2)).unwrap();
        let ids: Vec<&str> = questions
            .iter()
            .map(|question| question.id.as_str())
            .collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(questions[0].kind, "local");
        assert_eq!(questions[0].context_chunks, ["d#0", "d#1"]);
    }

    #[test]
    fn a_bad_line_is_named_with_its_place() {
        for (bad, reason) in [
            ("{\"id\": 1}", ":2: column 8: invalid type"),
            ("{\"id\": \"a\"}", "missing field `question`"),
            (&LINE.replace("[\"Tor\"]", "[]"), "field `answers` is empty"),
            (&LINE.replace("Who?", " "), "field `question` is empty"),
        ] {
            let file = file(&[LINE, bad]);
            let error = format!("{:#}", read_questions(file.path(), None).unwrap_err());
            assert!(error.contains(reason) && error.contains(":2"), "{error}");
        }
    }

    #[test]
    fn a_file_without_questions_is_an_error() {
        assert!(read_questions(file(&["", " "]).path(), None).is_err());
        assert!(read_questions(Path::new("/nowhere.jsonl"), None).is_err());
    }
}
