//! Every question under every mode, through the pipeline that serves requests; and whether retrieval
//! finds what a question needs.

use std::collections::HashSet;

use anyhow::Context as _;
use ragweave_server::pipeline::{Answer, Context, Query, Search};
use serde::Serialize;

use crate::dataset::Question;
use crate::experiment::{self, rotated};
use crate::metric::{is_exact_match, ms, share};
use crate::mode_spec::ModeSpec;
use crate::query::{Asker, lookups};

/// One answer to one question under one mode, both by index.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) question: usize,
    pub(super) mode: usize,
    /// Which time this question was asked under this mode.
    pub(super) repeat: usize,
    pub(super) is_match: bool,
    /// From the call of the pipeline to the first token.
    pub(super) ttft_ms: f64,
    pub(super) tokens_loaded: usize,
    pub(super) tokens_recomputed: usize,
    /// Chunks whose KV the mode wanted and the store did not have.
    pub(super) chunks_missed: usize,
}

/// Retrieval over the questions that name their gold chunks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Retrieval {
    pub(super) top_k: usize,
    /// Questions counted.
    pub(super) n: usize,
    /// Share whose gold chunks are all among the best `top_k`.
    pub(super) recall: Option<f64>,
}

/// Asks every question under every mode.
pub(super) struct Examiner<'a>(pub(super) Asker<'a>);

impl Examiner<'_> {
    /// Asks every question `repeats` times under every mode. The modes of one question take turns,
    /// so that a slow moment of the machine affects all of them.
    pub(super) async fn examine(
        &self,
        questions: &[Question],
        specs: &[ModeSpec],
        repeats: usize,
    ) -> anyhow::Result<Vec<Trial>> {
        // The first answers of a process pay for buffers and page faults.
        for spec in specs.iter().filter(|_| !questions.is_empty()) {
            self.ask(&questions[0], spec, 0).await?;
        }
        let bar = experiment::bar(questions.len() * repeats * specs.len(), "answers");
        let mut trials = Vec::new();
        for (index, question) in questions.iter().enumerate() {
            for repeat in 0..repeats {
                for mode in rotated(specs.len(), index * repeats + repeat) {
                    let answer = self.ask(question, &specs[mode], index).await?;
                    trials.push(Trial::new([index, mode, repeat], question, &answer));
                    bar.inc(1);
                }
            }
        }
        bar.finish_and_clear();
        Ok(trials)
    }

    async fn ask(
        &self,
        question: &Question,
        spec: &ModeSpec,
        index: usize,
    ) -> anyhow::Result<Answer> {
        let (mode, chunks) = (spec.mode_for(index), question.context_chunks.clone());
        let query = self.0.over_chunks(&question.question, chunks, mode);
        let answer = self.0.pipeline.answer_whole(named(query, question)).await;
        answer.with_context(|| format!("question {} under {spec}", question.id))
    }

    /// Retrieves for every question that names gold chunks.
    pub(super) async fn retrieve(
        &self,
        questions: &[Question],
        top_k: usize,
    ) -> anyhow::Result<Retrieval> {
        let mut found_all = Vec::new();
        for question in questions.iter().filter(|one| !one.gold_chunks.is_empty()) {
            let mut query = self.0.searched(&question.question);
            if let Context::Search(search) = query.context {
                query.context = Context::Search(Search { top_k, ..search });
            }
            let passages = self.0.pipeline.retrieve(named(query, question)).await;
            let passages = passages.with_context(|| format!("question {}", question.id))?;
            let found = passages.iter().map(|passage| passage.chunk_id.as_str());
            found_all.push(holds_all(found, &question.gold_chunks));
        }
        Ok(Retrieval {
            top_k,
            n: found_all.len(),
            recall: share(found_all),
        })
    }
}

/// The query under the question's id, by which logs name it.
fn named(query: Query, question: &Question) -> Query {
    Query {
        request_id: question.id.clone(),
        ..query
    }
}

fn holds_all<'a>(found: impl Iterator<Item = &'a str>, gold: &[String]) -> bool {
    let found: HashSet<&str> = found.collect();
    gold.iter().all(|id| found.contains(id.as_str()))
}

impl Trial {
    fn new([index, mode, repeat]: [usize; 3], question: &Question, answer: &Answer) -> Self {
        let report = &answer.started.report;
        Self {
            question: index,
            mode,
            repeat,
            is_match: is_exact_match(&answer.text, &question.answers),
            ttft_ms: ms(answer.finished.times.ttft),
            tokens_loaded: report.tokens_loaded,
            tokens_recomputed: report.tokens_recomputed,
            chunks_missed: lookups(&answer.started).1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::holds_all;

    #[test]
    fn every_gold_chunk_must_be_found() {
        let gold = ["a#0".to_owned(), "b#1".to_owned()];
        assert!(holds_all(["b#1", "c#0", "a#0"].into_iter(), &gold));
        assert!(!holds_all(["a#0", "b#0"].into_iter(), &gold));
    }
}
