//! The decode loop of one sequence: sample, detokenise, stop, emit.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::engine::{Engine, Sequence};
use crate::error::EngineError;
use crate::fusion::StopCheck;
use crate::kernel::FusionBackend;
use crate::sampling::{Sampled, Sampler, SamplingParams, StopMatcher, TokenHistory, TokenLogprob};
use crate::text::Detokenizer;

/// One piece of an answer.
#[derive(Debug, Clone)]
pub enum TokenEvent {
    /// Final text and the tokens it came from. The text may be empty while a character or a
    /// possible stop string is incomplete.
    Delta {
        text: String,
        token_ids: Vec<u32>,
        logprobs: Vec<TokenLogprob>,
    },
    /// The last event.
    Finished(FinishReport),
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An end-of-sequence or stop token.
    Eos,
    /// A stop string.
    StopString,
    /// `max_tokens` or the model's length.
    Length,
    /// The deadline passed while decoding.
    Deadline,
    /// The caller went away.
    Cancelled,
}

/// The end of an answer.
#[derive(Debug, Clone, Copy)]
pub struct FinishReport {
    pub reason: FinishReason,
    pub completion_tokens: usize,
    /// From the first token's logits to the end.
    pub decode: Duration,
}

/// The receiving side is gone.
pub(crate) struct Closed;

/// Receives events as they occur; an error ends the answer.
pub(crate) type Emit<'a> = &'a mut dyn FnMut(TokenEvent) -> Result<(), Closed>;

/// Decodes until something ends the answer, then emits `Finished`.
pub(crate) fn generate<B: FusionBackend>(
    engine: &mut Engine<B>,
    sequence: &mut Sequence<B>,
    prompt_ids: &[u32],
    params: &SamplingParams,
    stop: StopCheck<'_>,
    emit: Emit<'_>,
) -> Result<(), EngineError> {
    let start = Instant::now();
    let mut answer = Answer::new(engine, prompt_ids, params);
    let reason = loop {
        match stop() {
            Some(EngineError::DeadlineExceeded { .. }) => break FinishReason::Deadline,
            Some(_) => break FinishReason::Cancelled,
            None => {}
        }
        let sampled = answer.sampler.sample(&sequence.logits, &answer.history)?;
        let token = sampled.token;
        match answer.take(sampled, emit)? {
            Some(reason) => break reason,
            None if answer.is_full(engine, sequence) => break FinishReason::Length,
            None => engine.step(sequence, token)?,
        }
    };
    let report = FinishReport {
        reason,
        completion_tokens: answer.n_tokens,
        decode: start.elapsed(),
    };
    let rest = answer.flush(reason)?;
    if !rest.is_empty() {
        let delta = TokenEvent::Delta {
            text: rest,
            token_ids: Vec::new(),
            logprobs: Vec::new(),
        };
        let _ = emit(delta); // an error means that the caller is gone
    }
    let _ = emit(TokenEvent::Finished(report));
    Ok(())
}

/// The state of an answer being written.
struct Answer<'a> {
    params: &'a SamplingParams,
    sampler: Sampler,
    history: TokenHistory,
    detokenizer: Option<Detokenizer>,
    stops: StopMatcher,
    stop_ids: HashSet<u32>,
    n_tokens: usize,
}

impl<'a> Answer<'a> {
    fn new<B: FusionBackend>(
        engine: &Engine<B>,
        prompt_ids: &[u32],
        params: &'a SamplingParams,
    ) -> Self {
        let info = engine.info();
        let mut stop_ids: HashSet<u32> = params.stop_token_ids.iter().copied().collect();
        if !params.ignore_eos {
            stop_ids.extend(&info.generation.eos_token_ids);
        }
        Self {
            params,
            sampler: Sampler::new(params, info.config.vocab_size),
            history: TokenHistory::new(prompt_ids),
            detokenizer: info
                .tokenizer
                .as_ref()
                .map(|tokenizer| tokenizer.detokenizer()),
            stops: StopMatcher::new(&params.stop),
            stop_ids,
            n_tokens: 0,
        }
    }

    /// Takes one sampled token and emits the text that became final; `Some` if it ends the answer.
    fn take(
        &mut self,
        sampled: Sampled,
        emit: Emit<'_>,
    ) -> Result<Option<FinishReason>, EngineError> {
        self.n_tokens += 1;
        if self.stop_ids.contains(&sampled.token) {
            return Ok(Some(FinishReason::Eos));
        }
        self.history.push(sampled.token);
        let text = match &mut self.detokenizer {
            Some(detokenizer) => detokenizer.push(sampled.token)?.unwrap_or_default(),
            None => String::new(),
        };
        let matched = self.stops.push(&text);
        let logprobs = sampled.logprobs.into_iter().collect();
        let delta = TokenEvent::Delta {
            text: matched.emit,
            token_ids: vec![sampled.token],
            logprobs,
        };
        if emit(delta).is_err() {
            return Ok(Some(FinishReason::Cancelled));
        }
        Ok(matched.hit.then_some(FinishReason::StopString))
    }

    /// Whether no further token may be generated.
    fn is_full<B: FusionBackend>(&self, engine: &Engine<B>, sequence: &Sequence<B>) -> bool {
        self.n_tokens >= self.params.max_tokens
            || sequence.n_tokens >= sequence.cache.capacity()
            || sequence.n_tokens >= engine.info().max_model_len
    }

    /// Text that was held back for a character or stop string that was never completed.
    fn flush(&mut self, reason: FinishReason) -> Result<String, EngineError> {
        if reason == FinishReason::StopString {
            return Ok(String::new());
        }
        let tail = match &mut self.detokenizer {
            Some(detokenizer) => detokenizer.finish()?,
            None => String::new(),
        };
        let matched = self.stops.push(&tail);
        Ok(match matched.hit {
            true => matched.emit,
            false => matched.emit + &self.stops.finish(),
        })
    }
}
