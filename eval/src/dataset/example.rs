//! What every dataset is read into: questions over their own documents, and how their answers
//! are scored.

use crate::metric::first_line;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    pub id: String,
    /// The question's type, by which results are also given; may be empty.
    pub kind: String,
    pub question: String,
    /// Any of these is right; of a `Ruler { all: true }` task every one must be given.
    pub answers: Vec<String>,
    /// In prompt order; each becomes one chunk, or is split into several.
    pub documents: Vec<String>,
    pub max_tokens: usize,
}

/// How answers of a dataset are asked for and scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A name, a number, yes or no: exact match and F1.
    ShortAnswer,
    /// A few sentences: Rouge-L.
    Summary {
        /// Whether only the answer's first line is scored, as where examples in the prompt invite
        /// a model to go on with the next one; else all of it.
        first_line: bool,
    },
    /// Strings that must occur in the answer.
    Ruler {
        /// Whether the score is the share of references contained, or whether any is.
        all: bool,
    },
}

impl Task {
    /// The part of an answer that is scored.
    pub fn scored_part(self, answer: &str) -> &str {
        match self {
            Self::Summary { first_line: true } => first_line(answer),
            Self::ShortAnswer | Self::Summary { first_line: false } | Self::Ruler { .. } => answer,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// As it appears in tables.
    pub name: String,
    pub task: Task,
    /// Appended to each question, such as "Answer within 5 words."
    pub instruction: Option<String>,
    pub examples: Vec<Example>,
    /// What could not be read. An evaluation says so beside its results.
    pub skipped: Vec<SkippedLine>,
}

impl Dataset {
    /// Hash over all that is asked and how, in hex.
    pub fn hash(&self) -> String {
        // The debug form of these plain values shows every field and where it ends.
        let all = format!("{:?} {:?} {:?}", self.task, self.instruction, self.examples);
        blake3::hash(all.as_bytes()).to_hex().to_string()
    }
}

/// A line of a dataset that is not an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedLine {
    /// Counted from 1. Of a file that is one JSON list, the place in the list.
    pub line: usize,
    /// What is wrong, with the field's name.
    pub problem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_line_summaries_are_cut() {
        let answer = "\nAnn leaves.\nDialogue: Bob: hi";
        let summary = |first_line| Task::Summary { first_line };
        assert_eq!(summary(true).scored_part(answer), "Ann leaves.");
        assert_eq!(summary(false).scored_part(answer), answer);
        assert_eq!(Task::ShortAnswer.scored_part(answer), answer);
    }
}
