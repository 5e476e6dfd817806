//! Checks that depend only on model and configuration, made when both are opened: `serve`, `ingest`, `doctor` and
//! evaluation refuse the same settings with the same messages, before any request.

use ragweave_engine::{ModelConfig, ModelInfo};

use crate::config::{Config, ConfigError};
use crate::error::ServerError;
use crate::prompt::PromptFormat;

/// A question of about one token, to count the tokens around it.
const PROBE: &str = "a";

/// Whether the model has the layers that `[fusion]` names.
///
/// # Errors
/// Names the key and where its value comes from.
pub fn fusion(config: &Config, model: &ModelConfig) -> Result<(), ConfigError> {
    let checked = config.fusion.check_layers(model.num_hidden_layers);
    checked.map_err(|(key, message)| config.bad_value(key, message))
}

/// Whether the prompt format leaves room in the context for a passage and an answer.
///
/// # Errors
/// Names the tokens before the first passage and around a question.
pub fn prompt(model: &ModelInfo, prompt: &PromptFormat) -> Result<(), ServerError> {
    let segments = prompt.segments(None, &[], PROBE)?;
    let (prefix, question) = (segments.prefix.len(), segments.question.len());
    let context = model.max_model_len;
    // At least one token is for the answer.
    if prefix + question < context {
        return Ok(());
    }
    Err(ServerError::NoRoom {
        prefix,
        question,
        context,
    })
}

/// Warnings about settings that work differently than they suggest, one sentence each.
pub fn notices(config: &Config, model: &ModelInfo, prompt: &PromptFormat) -> Vec<String> {
    let mut notices = Vec::new();
    let context = model.max_model_len;
    if let Some(asked) = config.limits.max_model_len.filter(|asked| *asked > context) {
        notices.push(format!(
            "limits.max_model_len is {asked}, and the model's own context of {context} tokens is used"
        ));
    }
    let around = prompt
        .segments(None, &[], PROBE)
        .map_or(0, |segments| segments.n_tokens());
    let answer = config.limits.default_max_tokens(context);
    let room = context.saturating_sub(around + answer);
    let (chunk, top_k) = (config.ingest.chunk_tokens, config.retrieval.top_k);
    let fits = room / chunk;
    if fits < top_k {
        notices.push(format!(
            "{fits} passages of ingest.chunk_tokens ({chunk}) fit the context of {context} tokens beside a short question \
             and an answer of {answer}, and retrieval.top_k is {top_k}: what does not fit is dropped; lower one of them"
        ));
    }
    let prefix = prompt.conditioning_prefix().len();
    if config.ingest.neighbours > 0 && prefix + 2 * chunk + 1 > context {
        notices.push(format!(
            "after the prefix, the context of {context} tokens does not hold two chunks of ingest.chunk_tokens ({chunk}): \
             ingest.neighbours has no effect on such chunks"
        ));
    }
    notices
}
