//! A query: a question, where its context comes from, the fusion mode and the sampling.

use std::time::Instant;

use ragweave_engine::SamplingParams;
use ragweave_retriever::Filter;

use crate::config::{Config, Order};
use crate::mode_choice::ModeChoice;

/// One question with everything that decides its answer.
#[derive(Debug, Clone)]
pub struct Query {
    /// Identifies the request in logs.
    pub request_id: String,
    pub text: String,
    /// `None` stands for the text that the corpus was ingested with.
    pub system: Option<String>,
    pub context: Context,
    pub mode: ModeChoice,
    pub sampling: SamplingParams,
    /// Decoding stops at this time, even if the answer is not complete.
    pub deadline: Option<Instant>,
    /// Most bytes that the description of the sources may take; `None` for no limit.
    pub max_source_bytes: Option<usize>,
}

/// Where the context comes from.
#[derive(Debug, Clone)]
pub enum Context {
    /// The best chunks for the question. What does not fit the context window is dropped.
    Search(Search),
    /// These chunks in this order. All must fit.
    Chunks(Vec<String>),
}

/// How chunks are searched for.
#[derive(Debug, Clone)]
pub struct Search {
    pub top_k: usize,
    /// Order of the passages in the prompt.
    pub order: Order,
    pub filter: Filter,
}

impl Query {
    /// A question with the configured defaults: greedy sampling, no deadline. `max_model_len` is the model's
    /// context in tokens.
    pub fn new(text: impl Into<String>, config: &Config, max_model_len: usize) -> Self {
        Self {
            request_id: String::new(),
            text: text.into(),
            system: None,
            context: Context::Search(Search::new(config)),
            mode: config.fusion.to_choice(),
            sampling: SamplingParams::greedy(config.limits.default_max_tokens(max_model_len)),
            deadline: None,
            max_source_bytes: None,
        }
    }
}

impl Search {
    /// The configured search over the whole corpus.
    pub fn new(config: &Config) -> Self {
        let retrieval = &config.retrieval;
        Self {
            top_k: retrieval.top_k,
            order: retrieval.order,
            filter: Filter::default(),
        }
    }
}
