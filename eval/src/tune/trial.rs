//! One question under one mode, in the figures that decide.

use crate::examiner::{Outcome, Reference};
use crate::metric::is_normalised_match;
use crate::mode_spec::ModeSpec;

use super::ask::Ask;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trial {
    /// Whether the answer is right; `None` where no right one is known.
    pub(super) is_match: Option<bool>,
    pub(super) kl: f64,
    pub(super) top1_agreement: f64,
    /// Of full prefill's rows through attention and MLP.
    pub(super) computed_share: f64,
    pub(super) ttft_ms: f64,
}

impl Trial {
    pub(super) fn new(ask: &Ask, outcome: &Outcome, n_layers: usize) -> Self {
        Self {
            is_match: is_match(ask, &outcome.answer),
            kl: outcome.kl,
            top1_agreement: outcome.top1_agreement,
            computed_share: outcome.report.computed_share(n_layers),
            ttft_ms: outcome.ttft_ms,
        }
    }
}

/// Whether full prefill itself is right.
pub(super) fn full_match(ask: &Ask, reference: &Reference) -> Option<bool> {
    is_match(ask, &reference.answer)
}

fn is_match(ask: &Ask, answer: &str) -> Option<bool> {
    (!ask.answers.is_empty()).then(|| is_normalised_match(answer, &ask.answers))
}

/// A mode and its trials, in the order of the questions.
#[derive(Debug, Clone)]
pub(super) struct Tried {
    pub(super) spec: ModeSpec,
    pub(super) trials: Vec<Trial>,
}
