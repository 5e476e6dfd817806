//! LongBench's JSONL (Bai et al. 2023, arXiv 2308.14508), for its subsets over several documents
//! in English. LongBench-E's files, named with `_e`, are read alike.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::collector::Collector;
use super::{Dataset, Example, json};

mod passages;
mod subset;

use subset::Subset;

#[derive(Deserialize)]
#[serde(expecting = "an object {input, context, answers, dataset}")]
struct Line {
    /// The question; the dialogue to summarise; empty for `multi_news`.
    input: String,
    context: String,
    answers: Vec<String>,
    dataset: String,
    #[serde(rename = "_id")]
    id: Option<String>,
}

/// Reads up to `limit` examples. A file is of the subset that its first readable line names.
pub(super) fn read(bytes: &[u8], path: &Path, limit: Option<usize>) -> anyhow::Result<Dataset> {
    let mut subset = None;
    let read = |number, line| example(number, line, &mut subset);
    let collector = Collector::fill(limit, json::lines(bytes), read);
    let subset = subset.with_context(|| collector.why_there_is_none())?;
    collector.finish(path, subset.task(), subset.instruction())
}

fn example(
    number: usize,
    line: &[u8],
    file_subset: &mut Option<Subset>,
) -> anyhow::Result<Example> {
    let line: Line = json::parse_line(line)?;
    let subset = Subset::named(&line.dataset)?;
    let expected = *file_subset.get_or_insert(subset);
    ensure!(
        subset == expected,
        "field `dataset` is {subset}, but the file is one of {expected}; put each subset into its own file"
    );
    let question = subset.question(&line.input);
    Ok(Example {
        id: line.id.unwrap_or_else(|| number.to_string()),
        kind: String::new(),
        question: question.context("field `input` is empty")?,
        answers: line.answers,
        documents: subset.documents(&line.context),
        max_tokens: subset.max_tokens(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dataset::Task;

    fn line(dataset: &str, input: &str, context: &str, id: &str) -> String {
        json!({"input": input, "context": context, "answers": ["Tor College"], "length": 9,
            "dataset": dataset, "language": "en", "all_classes": null, "_id": id})
        .to_string()
    }

    fn read(lines: &[String]) -> anyhow::Result<Dataset> {
        super::read(lines.join("\n").as_bytes(), Path::new("lb.jsonl"), None)
    }

    #[test]
    fn questions_are_asked_over_their_passages() {
        for name in ["2wikimqa", "hotpotqa", "musique", "hotpotqa_e"] {
            let dataset =
                read(&[line(name, "Where?", "Passage 1:\nA\nPassage 2:\nB", "x")]).unwrap();
            let example = &dataset.examples[0];
            assert_eq!(dataset.task, Task::ShortAnswer);
            assert_eq!(
                (example.id.as_str(), example.question.as_str()),
                ("x", "Where?")
            );
            assert_eq!(example.documents, ["A", "B"]);
            assert_eq!(example.max_tokens, 32);
            assert!(
                dataset
                    .instruction
                    .is_some_and(|text| text.starts_with("Only give"))
            );
        }
    }

    #[test]
    fn summaries_are_asked_as_longbench_asks_them() {
        let dialogue = "Dialogue: Cy: bye\r\nSummary: ";
        let samsum = read(&[line(
            "samsum",
            dialogue,
            "Dialogue: Ann: hi\nSummary: Hi.",
            "x",
        )]);
        let samsum = samsum.unwrap();
        assert_eq!(samsum.task, Task::Summary { first_line: true });
        let example = &samsum.examples[0];
        assert!(example.question.starts_with("Summarize the dialogue"));
        assert!(example.question.ends_with("Dialogue: Cy: bye\r\nSummary:"));
        assert_eq!((example.max_tokens, example.documents.len()), (128, 1));

        let news = read(&[line("multi_news", "", "Passage 1:\nA\nPassage 2:\nB", "x")]).unwrap();
        assert_eq!(news.task, Task::Summary { first_line: false });
        assert_eq!(
            news.examples[0].question,
            "Write a one-page summary of all the news."
        );
        assert_eq!(
            (
                news.examples[0].max_tokens,
                news.examples[0].documents.len()
            ),
            (512, 2)
        );
    }

    #[test]
    fn other_subsets_and_incomplete_lines_are_skipped() {
        let dataset = read(&[
            line("narrativeqa", "Where?", "A", "1"),
            line("hotpotqa", " ", "A", "2"),
            line("hotpotqa", "Where?", " ", "3"),
            line("hotpotqa", "Where?", "A", "4"),
            line("samsum", "Dialogue: x", "A", "5"),
            line("hotpotqa", "Where?", "A", "4"),
            "{\"input\": \"x\"}".to_owned(),
        ])
        .unwrap();
        assert_eq!(dataset.examples.len(), 1);
        let problems: Vec<&str> = dataset.skipped.iter().map(|s| s.problem.as_str()).collect();
        assert_eq!(problems.len(), 6);
        assert!(problems[0].contains("`narrativeqa`; the subsets that can be read are 2wikimqa,"));
        assert_eq!(problems[1], "field `input` is empty");
        assert_eq!(problems[2], "there are no documents");
        assert!(problems[3].contains("`dataset` is samsum, but the file is one of hotpotqa"));
        assert_eq!(problems[4], "id `4` is that of line 4");
        assert!(
            problems[5].contains("missing field `context`"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_file_of_another_subset_is_an_error() {
        let error = read(&[line("qasper", "Where?", "A", "1")]).unwrap_err();
        assert!(
            error.to_string().contains("field `dataset` is `qasper`"),
            "{error}"
        );
    }
}
