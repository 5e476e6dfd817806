//! What serving makes of a verdict: which requests may be fused.

use std::path::Path;

use ragweave_engine::{Blend, Budget, Mode, Policy, Ratio, Selection};

use super::judge::Verdict;
use super::policy::Needles;
use super::record::Found;
use crate::controller::ModeChoice;

/// Whether requests may be fused.
#[derive(Debug, Clone, PartialEq)]
pub enum Gate {
    Open,
    /// Requests that would blend by one of these run as full prefill.
    Barred(Vec<Refused>),
    /// Every request runs as full prefill.
    Closed {
        reason: String,
    },
}

/// A policy that was measured and is not shown to be better than plain reuse.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// In [`canonical`] spelling. It is refused up to this ratio; of larger ones nothing is known.
    blend: Blend,
    /// Of the model.
    n_layers: Option<usize>,
    reason: String,
}

impl Refused {
    /// Those of a verdict's policies that did not pass.
    pub(super) fn of(needles: &Needles) -> Vec<Self> {
        let refused = needles.all().filter_map(|compared| {
            Some(Self {
                blend: canonical(&compared.blend()?, needles.n_layers),
                n_layers: needles.n_layers,
                reason: format!("{}; {}", compared.refusal(needles)?, needles.advice()),
            })
        });
        refused.collect()
    }

    pub(super) fn covers(&self, blend: &Blend) -> bool {
        let asked = Blend {
            ratio: self.blend.ratio,
            ..canonical(blend, self.n_layers)
        };
        // At ratio 0 no row is selected: it is plain reuse, whatever the policy.
        blend.ratio > Ratio::ZERO && blend.ratio <= self.blend.ratio && asked == self.blend
    }

    pub(super) fn into_reason(self) -> String {
        self.reason
    }
}

/// The blend in one spelling of those that mean the same on a model of this many layers.
pub(super) fn canonical(blend: &Blend, n_layers: Option<usize>) -> Blend {
    let Selection {
        policy,
        budget,
        correction,
    } = &blend.selection;
    let budget = match (policy, *budget) {
        // The engine gives it the first rows of each chunk either way.
        (Policy::FirstK, Budget::Prompt) => Budget::Length,
        (_, budget) => budget,
    };
    let selection = Selection {
        policy: canonical_policy(policy, n_layers),
        budget,
        correction: *correction,
    };
    Blend::new(selection, blend.ratio)
}

fn canonical_policy(policy: &Policy, n_layers: Option<usize>) -> Policy {
    match policy {
        Policy::Anchors { layers, pooling } => {
            let middle = n_layers.map(|n_layers| n_layers / 2);
            let mut layers = match layers.is_empty() {
                true => middle.into_iter().collect(),
                false => layers.clone(),
            };
            layers.sort_unstable();
            layers.dedup();
            let pooling = *pooling;
            Policy::Anchors { layers, pooling }
        }
        // Each names a row in turn: who begins makes a difference of one row at most.
        Policy::Union(policies) => {
            let policies = policies.iter();
            let mut policies: Vec<Policy> = policies
                .map(|policy| canonical_policy(policy, n_layers))
                .collect();
            policies.sort_by_key(Policy::to_string);
            Policy::Union(policies)
        }
        _ => policy.clone(),
    }
}

impl Gate {
    /// The mode to run a request in, and why it is not the one it asked for.
    pub fn pass(&self, mode: ModeChoice) -> (ModeChoice, Option<String>) {
        let reason = match self {
            Self::Open => None,
            Self::Closed { reason } => mode.reads_kv().then(|| reason.clone()),
            Self::Barred(refused) => match mode.widest() {
                Mode::Blend(blend) => refused
                    .iter()
                    .find(|refused| refused.covers(&blend))
                    .map(|refused| refused.reason.clone()),
                Mode::Full | Mode::Reuse => None,
            },
        };
        match reason {
            Some(reason) => (Mode::Full.into(), Some(reason)),
            None => (mode, None),
        }
    }

    /// Reads what the data directory says of this model, and logs what follows for the configured mode.
    pub fn read(data: &Path, fingerprint: &str, configured: &ModeChoice) -> Self {
        let verdict = match Found::read(data, fingerprint) {
            Found::Nothing => return Self::Open,
            Found::Ignored(why) => {
                tracing::warn!("fusion verdict ignored: {why}");
                return Self::Open;
            }
            Found::Verdict(verdict) => verdict,
        };
        if verdict.verdict == Verdict::Bad {
            let reason = format!(
                "fusion verdict of this model is bad: {}",
                verdict.reasons.join("; ")
            );
            tracing::warn!("every request runs as full prefill: {reason}");
            return Self::Closed { reason };
        }
        let configured = configured.widest();
        if let Some(reason) = verdict.refusal(&configured) {
            tracing::warn!("requests that name no other policy run as full prefill: {reason}");
        } else if !verdict.knows(&configured) {
            tracing::warn!(
                "the fusion verdict is about {}, not about {configured}, which is served unverified; run `ragweave \
                 doctor --verify-fusion` again",
                verdict.mode
            );
        }
        let refused = verdict
            .needles
            .as_ref()
            .map(Refused::of)
            .unwrap_or_default();
        match refused.is_empty() {
            true => Self::Open,
            false => Self::Barred(refused),
        }
    }
}
