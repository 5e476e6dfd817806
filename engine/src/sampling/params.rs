//! Sampling parameters of a request, and their ranges.

use std::ops::RangeInclusive;

use crate::error::EngineError;

const MAX_TEMPERATURE: f32 = 100.0;
const MAX_REPETITION_PENALTY: f32 = 100.0;
/// Presence and frequency penalties, as in OpenAI's API.
const ADDED_PENALTIES: RangeInclusive<f32> = -2.0..=2.0;
const MAX_STOP_STRINGS: usize = 16;
const MAX_STOP_BYTES: usize = 256;
const MAX_STOP_TOKENS: usize = 64;
const MAX_LOGPROBS: u32 = 20;

/// How the tokens of an answer are chosen, and when it ends.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 takes the most likely token (greedy).
    pub temperature: f32,
    /// Only the `top_k` most likely tokens; 0 is off, and a number above the vocabulary size keeps all.
    pub top_k: u32,
    /// Only the most likely tokens whose probabilities reach this sum; 1 is off.
    pub top_p: f32,
    /// Only tokens at least this fraction as likely as the most likely one; 0 is off.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt or answer; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of each token in the answer.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit once for each time it is in the answer.
    pub frequency_penalty: f32,
    /// Makes sampling repeatable; a fresh random seed if absent.
    pub seed: Option<u64>,
    /// The answer ends before the first of these texts.
    pub stop: Vec<String>,
    /// Tokens that end the answer, besides the model's end-of-sequence tokens.
    pub stop_token_ids: Vec<u32>,
    /// The longest answer, in tokens.
    pub max_tokens: usize,
    /// Report the log probability of each token, and those of this many most likely tokens.
    pub logprobs: Option<u32>,
    /// Generate past the model's end-of-sequence tokens.
    pub ignore_eos: bool,
}

impl SamplingParams {
    /// The most likely token at each step, at most `max_tokens` of them.
    #[must_use]
    pub fn greedy(max_tokens: usize) -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: None,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            max_tokens,
            logprobs: None,
            ignore_eos: false,
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`EngineError::InvalidSampling`] naming the first field out of range.
    pub fn validate(&self) -> Result<(), EngineError> {
        in_range("temperature", self.temperature, 0.0..=MAX_TEMPERATURE)?;
        in_range("top_p", self.top_p, f32::MIN_POSITIVE..=1.0).map_err(|_| {
            invalid(
                "top_p",
                format!("must be above 0 and at most 1, found {}", self.top_p),
            )
        })?;
        in_range("min_p", self.min_p, 0.0..=1.0)?;
        let penalties = f32::MIN_POSITIVE..=MAX_REPETITION_PENALTY;
        in_range("repetition_penalty", self.repetition_penalty, penalties).map_err(|_| {
            let found = self.repetition_penalty;
            let message =
                format!("must be above 0 and at most {MAX_REPETITION_PENALTY}, found {found}");
            invalid("repetition_penalty", message)
        })?;
        in_range("presence_penalty", self.presence_penalty, ADDED_PENALTIES)?;
        in_range("frequency_penalty", self.frequency_penalty, ADDED_PENALTIES)?;
        self.check_stops()?;
        if self.max_tokens == 0 {
            return Err(invalid("max_tokens", "must be at least 1"));
        }
        match self.logprobs {
            Some(n) if n > MAX_LOGPROBS => Err(invalid(
                "logprobs",
                format!("must be at most {MAX_LOGPROBS}, found {n}"),
            )),
            _ => Ok(()),
        }
    }

    fn check_stops(&self) -> Result<(), EngineError> {
        at_most("stop", self.stop.len(), MAX_STOP_STRINGS, "strings")?;
        for text in &self.stop {
            if text.is_empty() {
                return Err(invalid("stop", "must not contain an empty string"));
            }
            at_most("stop", text.len(), MAX_STOP_BYTES, "bytes per string")?;
        }
        at_most(
            "stop_token_ids",
            self.stop_token_ids.len(),
            MAX_STOP_TOKENS,
            "ids",
        )
    }
}

fn invalid(field: &'static str, message: impl Into<String>) -> EngineError {
    EngineError::InvalidSampling {
        field,
        message: message.into(),
    }
}

/// False for NaN, which no range contains.
fn in_range(
    field: &'static str,
    value: f32,
    range: RangeInclusive<f32>,
) -> Result<(), EngineError> {
    if range.contains(&value) {
        return Ok(());
    }
    let (low, high) = range.into_inner();
    Err(invalid(
        field,
        format!("must be between {low} and {high}, found {value}"),
    ))
}

fn at_most(field: &'static str, found: usize, limit: usize, what: &str) -> Result<(), EngineError> {
    if found <= limit {
        return Ok(());
    }
    Err(invalid(
        field,
        format!("takes at most {limit} {what}, found {found}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_refused(field: &str, change: impl FnOnce(&mut SamplingParams)) {
        let mut params = SamplingParams::greedy(1);
        change(&mut params);
        match params.validate() {
            Err(EngineError::InvalidSampling { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    }

    #[test]
    fn greedy_is_valid() {
        assert_eq!(SamplingParams::greedy(1).validate(), Ok(()));
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.5, 101.0] {
            assert_refused("temperature", |p| p.temperature = bad);
            assert_refused("top_p", |p| p.top_p = bad);
            assert_refused("min_p", |p| p.min_p = bad);
            assert_refused("repetition_penalty", |p| p.repetition_penalty = bad);
        }
        assert_refused("top_p", |p| p.top_p = 0.0);
        assert_refused("repetition_penalty", |p| p.repetition_penalty = 0.0);
        for bad in [f32::NAN, -2.1, 2.1] {
            assert_refused("presence_penalty", |p| p.presence_penalty = bad);
            assert_refused("frequency_penalty", |p| p.frequency_penalty = bad);
        }
        assert_refused("max_tokens", |p| p.max_tokens = 0);
        assert_refused("logprobs", |p| p.logprobs = Some(21));
    }

    #[test]
    fn stops_are_limited_in_number_and_length() {
        assert_refused("stop", |p| p.stop = vec!["a".into(), String::new()]);
        assert_refused("stop", |p| p.stop = vec!["x".repeat(257)]);
        assert_refused("stop", |p| p.stop = vec!["x".into(); 17]);
        assert_refused("stop_token_ids", |p| p.stop_token_ids = vec![1; 65]);
        let mut params = SamplingParams::greedy(1);
        params.stop = vec!["x".repeat(256); 16];
        assert_eq!(params.validate(), Ok(()));
    }

    #[test]
    fn extremes_that_mean_something_are_accepted() {
        let mut params = SamplingParams::greedy(usize::MAX);
        params.top_k = 1_000_000_000;
        params.temperature = 100.0;
        params.min_p = 1.0;
        params.logprobs = Some(0);
        assert_eq!(params.validate(), Ok(()));
    }
}
