//! Every question under every mode, through the pipeline that serves requests.

use anyhow::Context as _;
use ragweave_engine::{Mode, SamplingParams};
use ragweave_server::components::Components;
use ragweave_server::pipeline::{Answer, Context, Pipeline, Query};

use crate::dataset::Question;
use crate::experiment::{self, rotated};
use crate::metric::{is_exact_match, ms};
use crate::mode_spec::ModeSpec;
use crate::query::lookups;

/// One answer to one question under one mode.
#[derive(Debug)]
pub(super) struct Trial {
    /// Index of the question.
    pub(super) question: usize,
    /// Index of the mode.
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

/// Asks the pipeline.
pub(super) struct Examiner<'a> {
    components: &'a Components,
    pub(super) pipeline: Pipeline,
    max_tokens: usize,
}

impl<'a> Examiner<'a> {
    /// Must be called within a tokio runtime, as [`Pipeline::for_evaluation`].
    pub(super) fn new(components: &'a Components, max_tokens: usize) -> Self {
        Self {
            components,
            pipeline: Pipeline::for_evaluation(components),
            max_tokens,
        }
    }

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
        let mut trials = Vec::with_capacity(questions.len() * repeats * specs.len());
        for (index, question) in questions.iter().enumerate() {
            for repeat in 0..repeats {
                for mode in rotated(specs.len(), index * repeats + repeat) {
                    let answer = self.ask(question, &specs[mode], index).await?;
                    trials.push(trial([index, mode, repeat], question, &answer));
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
        let mut query = self.query(question);
        query.mode = spec.mode_for(index).into();
        query.context = Context::Chunks(question.context_chunks.clone());
        let answer = self.pipeline.answer_whole(query).await;
        answer.with_context(|| format!("question {} under {spec}", question.id))
    }

    /// A question with greedy sampling and the configured search.
    pub(super) fn query(&self, question: &Question) -> Query {
        let max_model_len = self.components.engine.model().max_model_len;
        let query = Query::new(&question.question, &self.components.config, max_model_len);
        Query {
            request_id: question.id.clone(),
            mode: Mode::Full.into(),
            sampling: SamplingParams::greedy(self.max_tokens),
            ..query
        }
    }
}

fn trial([index, mode, repeat]: [usize; 3], question: &Question, answer: &Answer) -> Trial {
    let report = &answer.started.report;
    Trial {
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
