//! Policies that a verdict refuses, in one canonical spelling for those that mean the same.

use ragweave_engine::{Blend, Policy, Ratio, Selection};

use super::policy::Needles;

/// A policy that was measured and is not shown to be better than plain reuse.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// In [`canonical`] spelling. It is refused up to this ratio; larger ratios were not measured.
    blend: Blend,
    /// Layers of the model.
    n_layers: Option<usize>,
    reason: String,
}

impl Refused {
    /// The policies of a verdict that did not pass.
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

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }
}

/// The canonical spelling of a blend on a model of this many layers.
pub(super) fn canonical(blend: &Blend, n_layers: Option<usize>) -> Blend {
    let written = &blend.selection;
    let selection = Selection {
        policy: canonical_policy(&written.policy, n_layers),
        budget: written.applied_budget(),
        correction: written.correction,
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
        // They name rows in turn, so their order makes a difference of one row at most.
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
