//! RULER-style tasks of any length (Hsieh et al., "RULER: What's the Real Context Size of Your
//! Long-Context Language Models?", 2024, arXiv 2404.06654): needles hidden in the passages of a
//! generated haystack, and questions for all of them.
//!
//! Needles, questions and answer limits are those of the paper's repository. What differs:
//! * The haystack is generated prose, because no essays are included. It is cut into passages, as
//!   retrieval would, and the needles of a question are in different ones.
//! * No sentence before the context says what will be asked: stored KV is made without the question.
//! * Variable tracking has a second chain, without which naming every variable would be right, and
//!   no worked example.

use super::example::{Dataset, Example, Task};
use crate::random::Random;

mod haystack;
mod problem;
mod task;
#[cfg(test)]
mod tests;
mod words;

use haystack::Haystack;
use problem::Problem;

pub use task::{RulerTask, UnknownRulerTask};

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
