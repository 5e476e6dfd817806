//! RULER-style tasks of any length (Hsieh et al., "RULER: What's the Real Context Size of Your
//! Long-Context Language Models?", 2024, arXiv 2404.06654): needles hidden in the passages of a
//! generated haystack, and questions for all of them.
//!
//! Needles, questions and answer limits are those of the paper's repository. What differs:
//! * The haystack is generated prose, for no essays come along. It is cut into passages, as
//!   retrieval would, and the needles of a question stand in different ones.
//! * No sentence before the context says what will be asked: stored KV does not know the question.
//! * Variable tracking has a second chain, without which naming every variable would be right, and
//!   no worked example.

use std::fmt;
use std::str::FromStr;

use super::example::{Dataset, Example, Task};
use crate::random::Random;

mod haystack;
mod problem;
#[cfg(test)]
mod tests;

use haystack::Haystack;
use problem::Problem;

/// A task of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RulerTask {
    /// Four keys with a value each; one is asked for.
    MultiKey,
    /// One key with four values; all are asked for.
    MultiValue,
    /// Four keys with a value each; all are asked for.
    MultiQuery,
    /// A value passed on from variable to variable; all that hold it are asked for.
    VariableTracking,
}

impl RulerTask {
    /// Every task.
    pub const ALL: [Self; 4] = [
        Self::MultiKey,
        Self::MultiValue,
        Self::MultiQuery,
        Self::VariableTracking,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::MultiKey => "multikey",
            Self::MultiValue => "multivalue",
            Self::MultiQuery => "multiquery",
            Self::VariableTracking => "vt",
        }
    }

    /// The longest answer in tokens, as in the paper's repository.
    fn max_tokens(self) -> usize {
        match self {
            Self::MultiKey | Self::MultiValue | Self::MultiQuery => 128,
            Self::VariableTracking => 30,
        }
    }
}

impl fmt::Display for RulerTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of [`RulerTask::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown RULER task `{0}`: known are multikey, multivalue, multiquery and vt")]
pub struct UnknownRulerTask(String);

impl FromStr for RulerTask {
    type Err = UnknownRulerTask;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|task| task.name() == text.trim())
            .ok_or_else(|| UnknownRulerTask(text.to_owned()))
    }
}

/// `n` questions, each over passages that together hold about `target_tokens` as `count_tokens`
/// counts them: within 5 % where that is 25 sentences or more, of a dozen or more tokens each. A
/// context too short for its needles becomes longer than asked for.
///
/// The same arguments and the same counts give the same questions.
#[must_use]
pub fn generate(
    task: RulerTask,
    target_tokens: usize,
    n: usize,
    seed: u64,
    count_tokens: &dyn Fn(&str) -> usize,
) -> Dataset {
    let mut random = Random::new(seed);
    let haystack = Haystack::new(target_tokens, count_tokens);
    let examples = (1..=n).map(|number| {
        let problem = Problem::draw(task, &mut random);
        Example {
            id: format!("{task}-{target_tokens}-{number:03}"),
            kind: task.to_string(),
            question: problem.question,
            answers: problem.answers,
            documents: haystack.hide(&problem.needles, &mut random),
            max_tokens: task.max_tokens(),
        }
    });
    Dataset {
        name: format!("ruler-{task}-{target_tokens}"),
        task: Task::Ruler { all: true },
        instruction: None,
        examples: examples.collect(),
        skipped: Vec::new(),
    }
}
