//! The scores of one answer.

use serde::{Deserialize, Serialize};

use crate::dataset::Task;
use crate::metric::{
    is_normalised_match, normalise_answer, parse_generation, rouge_l, string_match, token_f1,
    word_f1,
};
use crate::subject::Subject;

/// Scores in `0..=1`; those that are not asked of the task are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scores {
    /// After SQuAD's normalisation.
    pub(crate) exact_match: Option<f64>,
    pub(crate) f1: Option<f64>,
    pub(crate) token_f1: Option<f64>,
    pub(crate) rouge_l: Option<f64>,
    pub(crate) ruler: Option<f64>,
}

impl Scores {
    pub(crate) fn of(
        task: Task,
        answer: &str,
        references: &[String],
        subject: &Subject,
    ) -> anyhow::Result<Self> {
        let mut scores = Self::default();
        let scored = task.scored_part(answer);
        match task {
            Task::ShortAnswer => {
                let is_match = is_normalised_match(scored, references);
                scores.exact_match = Some(f64::from(u8::from(is_match)));
                scores.f1 = Some(word_f1(scored, references));
                scores.token_f1 = Some(tokens_f1(scored, references, subject)?);
            }
            Task::Summary { .. } => scores.rouge_l = Some(rouge_l(scored, references)),
            Task::Ruler { all } => scores.ruler = Some(string_match(scored, references, all)),
        }
        Ok(scores)
    }

    /// The score by which an answer of its task is right.
    pub(crate) fn main(&self) -> Option<f64> {
        self.exact_match.or(self.ruler).or(self.rouge_l)
    }
}

/// As the CacheBlend repository counts: tokenizer tokens of the first line.
fn tokens_f1(answer: &str, references: &[String], subject: &Subject) -> anyhow::Result<f64> {
    let encode = |text: &str| subject.encode(&normalise_answer(text));
    let references = references.iter().map(|reference| encode(reference));
    let references: Vec<Vec<u32>> = references.collect::<Result<_, _>>()?;
    Ok(token_f1(&encode(parse_generation(answer))?, &references))
}
