//! Choosing the next token. The steps and their order are those of transformers and vLLM:
//!
//! 1. repetition penalty over prompt and answer, then frequency and presence over the answer;
//! 2. temperature (0 takes the most likely token and ends here; ties go to the lowest id);
//! 3. `top_k`; 4. `top_p`; 5. `min_p`, each on what the previous step kept;
//! 6. one draw from the softmax of what is left.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::params::SamplingParams;
use super::random::Random;
use crate::error::EngineError;

/// Candidates sorted first when `top_p` is applied; these are enough for most distributions.
const FIRST_CANDIDATES: usize = 256;

/// The tokens of a sequence so far, as penalties see them.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenHistory {
    /// How often each token of prompt or answer is in the answer.
    answer_counts: HashMap<u32, u32>,
}

impl TokenHistory {
    /// A history that starts with `prompt`.
    pub(crate) fn new(prompt: &[u32]) -> Self {
        Self {
            answer_counts: prompt.iter().map(|id| (*id, 0)).collect(),
        }
    }

    /// Adds a generated token.
    pub(crate) fn push(&mut self, token: u32) {
        *self.answer_counts.entry(token).or_default() += 1;
    }
}

/// A token and the logarithm of its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopLogprob {
    pub token: u32,
    pub logprob: f32,
}

/// How likely the chosen token was, before penalties, temperature and cuts.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    pub token: u32,
    pub logprob: f32,
    /// The most likely tokens, best first, as many as the request asked for.
    pub top: Vec<TopLogprob>,
}

/// The next token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sampled {
    pub(crate) token: u32,
    /// Present when the request asked for log probabilities.
    pub(crate) logprobs: Option<TokenLogprob>,
}

/// Chooses the tokens of one answer.
#[derive(Debug)]
pub(crate) struct Sampler {
    params: SamplingParams,
    random: Random,
    /// Penalised logits, `[vocab_size]`; kept between steps to save the allocation.
    scores: Vec<f32>,
    vocab_size: usize,
}

/// A token that may be drawn.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    token: u32,
    score: f32,
}

impl Candidate {
    /// The more likely first; equal ones by id, so that the order never depends on the sort.
    fn best_first(&self, other: &Self) -> Ordering {
        other
            .score
            .total_cmp(&self.score)
            .then(self.token.cmp(&other.token))
    }
}

impl Sampler {
    /// A sampler for one answer; `params` must be valid.
    pub(crate) fn new(params: &SamplingParams, vocab_size: usize) -> Self {
        Self {
            params: params.clone(),
            random: Random::new(params.seed),
            scores: Vec::with_capacity(vocab_size),
            vocab_size,
        }
    }

    /// Chooses the token that follows `history`.
    ///
    /// # Shapes
    /// `logits`: `[vocab_size]`. A logit of minus infinity rules its token out.
    ///
    /// # Errors
    /// [`EngineError::BadLogits`] for NaN, plus infinity, or when every token is ruled out.
    ///
    /// # Panics
    /// When the number of logits is not the vocabulary size, which is a bug of the caller.
    pub(crate) fn sample(
        &mut self,
        logits: &[f32],
        history: &TokenHistory,
    ) -> Result<Sampled, EngineError> {
        assert_eq!(
            logits.len(),
            self.vocab_size,
            "one logit per token of the vocabulary"
        );
        check(logits)?;
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        self.penalise(history);
        let token = match self.params.temperature {
            0.0 => most_likely(&self.scores),
            _ => self.draw(),
        };
        let logprobs = self
            .params
            .logprobs
            .map(|n| token_logprob(logits, token, n as usize));
        Ok(Sampled { token, logprobs })
    }

    fn penalise(&mut self, history: &TokenHistory) {
        let p = &self.params;
        if p.repetition_penalty == 1.0 && p.presence_penalty == 0.0 && p.frequency_penalty == 0.0 {
            return;
        }
        for (token, count) in &history.answer_counts {
            // Ids beyond the vocabulary have no logit to penalise.
            let Some(score) = self.scores.get_mut(*token as usize) else {
                continue;
            };
            *score *= match *score > 0.0 {
                true => 1.0 / p.repetition_penalty,
                false => p.repetition_penalty,
            };
            if *count > 0 {
                *score -= p.frequency_penalty * *count as f32 + p.presence_penalty;
            }
        }
    }

    /// Steps 2 to 6 for a temperature above 0.
    fn draw(&mut self) -> u32 {
        let max = self
            .scores
            .iter()
            .copied()
            .fold(f32::NEG_INFINITY, f32::max);
        let mut candidates: Vec<Candidate> = (0..)
            .zip(&self.scores)
            .filter(|(_, score)| **score != f32::NEG_INFINITY)
            .map(|(token, score)| Candidate {
                token,
                score: *score,
            })
            .collect();
        self.keep_top_k(&mut candidates);
        let weight = |c: &Candidate| weight(c.score, max, self.params.temperature);
        self.keep_top_p(&mut candidates, weight);
        let floor = f64::from(self.params.min_p);
        // The best candidate has weight 1, so weights are fractions of it.
        candidates.retain(|candidate| weight(candidate) >= floor);
        let total: f64 = candidates.iter().map(weight).sum();
        let mut left = self.random.unit() * total;
        for candidate in &candidates {
            left -= weight(candidate);
            if left < 0.0 {
                return candidate.token;
            }
        }
        // Reached only through rounding of the sum.
        candidates
            .last()
            .map_or_else(|| most_likely(&self.scores), |candidate| candidate.token)
    }

    fn keep_top_k(&self, candidates: &mut Vec<Candidate>) {
        let k = self.params.top_k as usize;
        if k == 0 || k >= candidates.len() {
            return;
        }
        candidates.select_nth_unstable_by(k - 1, Candidate::best_first);
        candidates.truncate(k);
        // What is drawn must not depend on the order that the selection produced.
        candidates.sort_unstable_by(Candidate::best_first);
    }

    /// Keeps the shortest best-first row of candidates whose weights reach `top_p` of all: at
    /// least one. Only as many as needed are sorted.
    fn keep_top_p(&self, candidates: &mut Vec<Candidate>, weight: impl Fn(&Candidate) -> f64) {
        if self.params.top_p >= 1.0 {
            return;
        }
        let target = f64::from(self.params.top_p) * candidates.iter().map(&weight).sum::<f64>();
        let mut n_sorted = FIRST_CANDIDATES;
        loop {
            let n = n_sorted.min(candidates.len());
            if n < candidates.len() {
                candidates.select_nth_unstable_by(n, Candidate::best_first);
            }
            candidates[..n].sort_unstable_by(Candidate::best_first);
            let mut sum = 0.0;
            let reached = candidates[..n].iter().position(|candidate| {
                sum += weight(candidate);
                sum >= target
            });
            match reached {
                Some(last) => return candidates.truncate(last + 1),
                None if n == candidates.len() => return,
                None => n_sorted *= 8,
            }
        }
    }
}

/// Probability relative to the most likely token. Subtracting the maximum first keeps the
/// result finite at the smallest temperatures.
fn weight(score: f32, max: f32, temperature: f32) -> f64 {
    ((f64::from(score) - f64::from(max)) / f64::from(temperature)).exp()
}

fn check(logits: &[f32]) -> Result<(), EngineError> {
    let mut any_possible = false;
    for logit in logits {
        if logit.is_nan() {
            return Err(EngineError::BadLogits { what: "NaN" });
        }
        if *logit == f32::INFINITY {
            return Err(EngineError::BadLogits { what: "infinite" });
        }
        any_possible |= *logit != f32::NEG_INFINITY;
    }
    if any_possible {
        Ok(())
    } else {
        Err(EngineError::BadLogits {
            what: "only impossible",
        })
    }
}

/// The token with the highest score; of equal ones the lowest id.
fn most_likely(scores: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, score) in (0..).zip(scores) {
        if *score > best.1 {
            best = (token, *score);
        }
    }
    best.0
}

/// Log probabilities under the model's own distribution.
fn token_logprob(logits: &[f32], token: u32, n_top: usize) -> TokenLogprob {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let log_total = logits
        .iter()
        .map(|logit| weight(*logit, max, 1.0))
        .sum::<f64>()
        .ln();
    let logprob = |logit: f32| (f64::from(logit) - f64::from(max) - log_total) as f32;
    let mut candidates: Vec<Candidate> = match n_top {
        0 => Vec::new(),
        _ => (0..)
            .zip(logits)
            .map(|(token, score)| Candidate {
                token,
                score: *score,
            })
            .collect(),
    };
    if n_top < candidates.len() {
        candidates.select_nth_unstable_by(n_top, Candidate::best_first);
        candidates.truncate(n_top);
    }
    candidates.sort_unstable_by(Candidate::best_first);
    let top = candidates
        .iter()
        .map(|candidate| TopLogprob {
            token: candidate.token,
            logprob: logprob(candidate.score),
        })
        .collect();
    TokenLogprob {
        token,
        logprob: logprob(logits[token as usize]),
        top,
    }
}

#[cfg(test)]
mod tests;
