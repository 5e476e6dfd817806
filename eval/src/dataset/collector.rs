//! Gathers a dataset's examples and the lines that are not examples.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use super::{Dataset, Example, SkippedLine, Task};

/// Problems an error lists before it only counts them.
const MAX_LISTED: usize = 3;
/// Characters of a problem that are kept: a parser may quote the whole field.
const MAX_PROBLEM_CHARS: usize = 200;

/// Takes lines until it has the examples asked for. An example needs a question, answers,
/// documents and an id of its own; everything else about it is for its reader.
#[derive(Debug)]
pub(super) struct Collector {
    limit: usize,
    examples: Vec<Example>,
    skipped: Vec<SkippedLine>,
    /// Where each id was seen. Runs resume by id, so two examples cannot share one.
    lines_by_id: HashMap<String, usize>,
}

impl Collector {
    fn new(limit: Option<usize>) -> Self {
        Self {
            limit: limit.unwrap_or(usize::MAX),
            examples: Vec::new(),
            skipped: Vec::new(),
            lines_by_id: HashMap::new(),
        }
    }

    /// Takes numbered lines, read by `read`, until there are enough examples.
    pub(super) fn fill<L>(
        limit: Option<usize>,
        lines: impl Iterator<Item = (usize, L)>,
        mut read: impl FnMut(usize, L) -> anyhow::Result<Example>,
    ) -> Self {
        let mut collector = Self::new(limit);
        for (number, line) in lines {
            if collector.is_full() {
                break;
            }
            collector.take(number, read(number, line));
        }
        collector
    }

    fn is_full(&self) -> bool {
        self.examples.len() >= self.limit
    }

    /// Takes what a line was read into; `line` is counted from 1.
    fn take(&mut self, line: usize, example: anyhow::Result<Example>) {
        if let Err(error) = example.and_then(|example| self.accept(line, example)) {
            let problem = shortened(&format!("{error:#}"));
            self.skipped.push(SkippedLine { line, problem });
        }
    }

    fn accept(&mut self, line: usize, example: Example) -> anyhow::Result<()> {
        check(&example)?;
        if let Some(first) = self.lines_by_id.get(&example.id) {
            bail!("id `{}` is that of line {first}", example.id);
        }
        self.lines_by_id.insert(example.id.clone(), line);
        self.examples.push(example);
        Ok(())
    }

    /// The dataset, named after its file; without an example, an error with the first problems.
    pub(super) fn finish(
        self,
        path: &Path,
        task: Task,
        instruction: Option<&str>,
    ) -> anyhow::Result<Dataset> {
        ensure!(!self.examples.is_empty(), self.why_there_is_none());
        let name = path.file_stem().context("a dataset is a file")?;
        Ok(Dataset {
            name: name.to_string_lossy().into_owned(),
            task,
            instruction: instruction.map(str::to_owned),
            examples: self.examples,
            skipped: self.skipped,
        })
    }

    /// The first problems, for a file without one example.
    pub(super) fn why_there_is_none(&self) -> String {
        if self.skipped.is_empty() {
            return "the file holds no questions".to_owned();
        }
        let listed = self.skipped.iter().take(MAX_LISTED);
        let listed: Vec<String> = listed
            .map(|skipped| format!("line {}: {}", skipped.line, skipped.problem))
            .collect();
        let rest = match self.skipped.len().saturating_sub(MAX_LISTED) {
            0 => String::new(),
            n => format!("; and {n} more"),
        };
        format!("no line is a question: {}{rest}", listed.join("; "))
    }
}

fn check(example: &Example) -> anyhow::Result<()> {
    let is_blank = |text: &String| text.trim().is_empty();
    ensure!(!is_blank(&example.question), "the question is empty");
    ensure!(
        !example.answers.iter().all(is_blank),
        "there is no answer that is not empty"
    );
    ensure!(!example.documents.is_empty(), "there are no documents");
    if let Some(idx) = example.documents.iter().position(is_blank) {
        bail!(
            "document {} of {} is empty",
            idx + 1,
            example.documents.len()
        );
    }
    ensure!(
        example.max_tokens > 0,
        "`max_tokens` is 0; it is at least 1"
    );
    Ok(())
}

fn shortened(problem: &str) -> String {
    match problem.char_indices().nth(MAX_PROBLEM_CHARS) {
        Some((end, _)) => format!("{}...", &problem[..end]),
        None => problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(id: &str) -> Example {
        Example {
            id: id.to_owned(),
            kind: String::new(),
            question: "Who?".to_owned(),
            answers: vec!["Tor".to_owned()],
            documents: vec!["Tor did.".to_owned()],
            max_tokens: 8,
        }
    }

    fn finish(collector: Collector) -> anyhow::Result<Dataset> {
        collector.finish(
            Path::new("dir/some.jsonl"),
            Task::ShortAnswer,
            Some("Be brief."),
        )
    }

    #[test]
    fn good_lines_are_kept_and_bad_ones_listed() {
        let mut collector = Collector::new(Some(2));
        collector.take(1, Ok(example("a")));
        collector.take(2, Err(anyhow::anyhow!("missing field `question`")));
        assert!(!collector.is_full());
        collector.take(3, Ok(example("b")));
        assert!(collector.is_full());
        let dataset = finish(collector).unwrap();
        assert_eq!(dataset.name, "some");
        assert_eq!(dataset.instruction.as_deref(), Some("Be brief."));
        assert_eq!(dataset.examples, [example("a"), example("b")]);
        let skipped = SkippedLine {
            line: 2,
            problem: "missing field `question`".to_owned(),
        };
        assert_eq!(dataset.skipped, [skipped]);
    }

    #[test]
    fn an_example_without_what_it_needs_is_skipped_with_the_reason() {
        for (spoil, reason) in [
            (|e| e.question = " ".to_owned(), "the question is empty"),
            (|e| e.answers.clear(), "there is no answer"),
            (|e| e.answers[0].clear(), "there is no answer"),
            (|e| e.documents.clear(), "there are no documents"),
            (
                |e| e.documents.push("\n".to_owned()),
                "document 2 of 2 is empty",
            ),
            (|e| e.max_tokens = 0, "`max_tokens` is 0"),
            (|e| e.id = "a".to_owned(), "id `a` is that of line 1"),
        ] as [(fn(&mut Example), &str); 7]
        {
            let mut collector = Collector::new(None);
            let mut spoilt = example("b");
            spoil(&mut spoilt);
            collector.take(1, Ok(example("a")));
            collector.take(2, Ok(spoilt));
            let dataset = finish(collector).unwrap();
            assert_eq!(dataset.examples, [example("a")]);
            assert!(dataset.skipped[0].problem.starts_with(reason), "{reason}");
        }
    }

    #[test]
    fn without_one_example_the_first_problems_are_the_error() {
        let mut collector = Collector::new(None);
        let error = finish(Collector::new(None)).unwrap_err().to_string();
        assert_eq!(error, "the file holds no questions");
        for line in 1..=5 {
            collector.take(line, Err(anyhow::anyhow!("p{line}{}", "x".repeat(300))));
        }
        let error = finish(collector).unwrap_err().to_string();
        assert!(
            error.starts_with("no line is a question: line 1: p1xxx"),
            "{error}"
        );
        assert!(error.contains("xx...; line 2: p2x"), "{error}");
        assert!(error.ends_with("xx...; and 2 more"), "{error}");
        assert!(error.len() < 4 * MAX_PROBLEM_CHARS, "{error}");
    }
}
