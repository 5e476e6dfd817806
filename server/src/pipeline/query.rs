//! What is asked: a question, where its context comes from, and how its KV and its tokens are made.

use std::time::Instant;

use ragweave_engine::SamplingParams;
use ragweave_retriever::Filter;

use crate::config::{Config, Order};
use crate::controller::ModeChoice;

/// Answer length where the request does not say, before the limits of server and model.
pub const DEFAULT_MAX_TOKENS: usize = 256;
/// At most this part of the context window is set aside for an answer of default length.
const DEFAULT_ANSWER_SHARE: usize = 4;

/// One question with everything that decides its answer.
#[derive(Debug, Clone)]
pub struct Query {
    /// Finds the request again in logs.
    pub request_id: String,
    pub text: String,
    /// `None` is the text the corpus was ingested under.
    pub system: Option<String>,
    pub context: Context,
    pub mode: ModeChoice,
    pub sampling: SamplingParams,
    /// Decoding stops here, whatever it has.
    pub deadline: Option<Instant>,
    /// Most bytes of what the answer says of its sources; `None` for callers that take any number.
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

/// How chunks are searched.
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
            sampling: SamplingParams::greedy(default_max_tokens(config, max_model_len)),
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

/// Longest answer in tokens where the request does not say.
pub(crate) fn default_max_tokens(config: &Config, max_model_len: usize) -> usize {
    let of_context = (max_model_len / DEFAULT_ANSWER_SHARE).max(1);
    DEFAULT_MAX_TOKENS
        .min(config.limits.max_output_tokens)
        .min(of_context)
}
