//! What a blend recomputes: the policies that choose rows, how the rows are spread over the chunks,
//! and what happens to the rows that stay as stored.

use serde::{Deserialize, Serialize};

use crate::error::EngineError;

/// Which stored rows are recomputed, apart from how many.
///
/// Its text form is that of [`crate::fusion`]'s notation: `hkvd@2`, `first-k+query/all~score`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selection {
    pub policy: Policy,
    pub budget: Budget,
    pub correction: Correction,
}

/// A selection policy with its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// High KV deviation (CacheBlend): all rows run below `check_layer`; there fresh and stored KV
    /// are compared and the rows that deviate most go on.
    Hkvd {
        check_layer: usize,
        deviation: Deviation,
        schedule: Schedule,
    },
    /// The first tokens of each chunk (EPIC, arXiv 2410.15332). No check layer.
    FirstK,
    /// What the question attends to over the stored KV (FusionRAG, ProphetKV).
    Query {
        layers: QueryLayers,
        pooling: Pooling,
    },
    /// What the question attends to at a few layers, having seen only the anchors of each chunk on
    /// the way there (QCFuse). No layers means the middle one.
    Anchors {
        layers: Vec<usize>,
        pooling: Pooling,
    },
    /// Uniformly random rows: the baseline that any policy has to beat.
    Random { seed: u64 },
    /// The true deviation, from a real full prefill: the upper bound for selection by deviation.
    /// For evaluation; it costs more than it saves.
    Oracle { deviation: Deviation },
    /// Several policies under one budget, each naming its best remaining row in turn.
    Union(Vec<Policy>),
    /// Every row of the prompt, exact ones too: the upper limit, equal to full prefill.
    All,
}

/// Which tensors a deviation compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deviation {
    K,
    V,
    Kv,
}

/// How many rows stay alive from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// The rows picked at the check layer.
    Fixed,
    /// CacheBlend 4.3: linear from 1.5 k at the check layer to 0.5 k at the last.
    Gradual,
}

/// The layers at which `query` reads attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryLayers {
    /// FusionRAG (arXiv 2601.12904).
    Last,
    /// ProphetKV (arXiv 2602.02579): the mean over all layers.
    All,
}

/// How the attention of the question's tokens becomes one number per row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    Mean,
    Max,
    /// The attention of the prompt's last token alone.
    Final,
}

/// How the rows to recompute are spread over the chunks. `k = ceil(ratio x candidates)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// The best `k` rows of the prompt, wherever they are.
    Prompt,
    /// The best `ceil(ratio x length)` rows of each chunk.
    Length,
    /// `k` rows, of which each chunk gets its share of the sum of the policy's scores: chunks that
    /// the context changes much are decided more. In the spirit of Cache-Craft (arXiv 2502.15734),
    /// which weighs chunks by the attention between them when they were cached. Ours were cached
    /// alone, so the scores of this prompt take its place.
    Score,
}

/// What happens to stored rows that are not recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correction {
    /// They stay as they were stored.
    None,
    /// At each layer, the mean change of a chunk's recomputed rows is added to its other rows: K
    /// before RoPE, and V (after AgentKVShift, arXiv 2607.21604). It costs no forward pass but a
    /// second write of the stored rows. Needs nothing at ingest.
    Mean,
}

impl Selection {
    /// A selection with the default budget and correction: the policy's rows wherever they are, the others as stored.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            budget: Budget::Prompt,
            correction: Correction::None,
        }
    }

    /// The budget as applied: `first-k` means the first rows of each chunk.
    pub fn applied_budget(&self) -> Budget {
        match (&self.policy, self.budget) {
            (Policy::FirstK, Budget::Prompt) => Budget::Length,
            (_, budget) => budget,
        }
    }
}

impl From<Policy> for Selection {
    fn from(policy: Policy) -> Self {
        Self::new(policy)
    }
}

impl Policy {
    /// `hkvd` with K and V compared once.
    pub fn hkvd(check_layer: usize) -> Self {
        Self::Hkvd {
            check_layer,
            deviation: Deviation::Kv,
            schedule: Schedule::Fixed,
        }
    }

    /// The policy's name, without its settings.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hkvd { .. } => "hkvd",
            Self::FirstK => "first-k",
            Self::Query { .. } => "query",
            Self::Anchors { .. } => "anchors",
            Self::Random { .. } => "random",
            Self::Oracle { .. } => "oracle",
            Self::Union(_) => "union",
            Self::All => "all",
        }
    }

    /// Whether the policy, or one in its union, is for evaluation only: it needs a full prefill.
    pub fn is_for_evaluation(&self) -> bool {
        match self {
            Self::Oracle { .. } => true,
            Self::Union(policies) => policies.iter().any(Self::is_for_evaluation),
            _ => false,
        }
    }

    /// The layer at which fresh and stored KV are compared; `None` if nothing is.
    pub fn check_layer(&self) -> Option<usize> {
        match self {
            Self::Hkvd { check_layer, .. } => Some(*check_layer),
            Self::Union(policies) => policies.iter().find_map(Self::check_layer),
            _ => None,
        }
    }

    /// # Errors
    /// For the field `selection`: a layer that a model of `n_layers` layers does not have, or an invalid
    /// union.
    pub(crate) fn validate(&self, n_layers: usize) -> Result<(), EngineError> {
        let deepest = match self {
            Self::Hkvd { check_layer, .. } => Some(*check_layer),
            Self::Anchors { layers, .. } => layers.iter().copied().max(),
            Self::Union(policies) => return validate_union(policies, n_layers),
            _ => None,
        };
        match deepest {
            Some(layer) if layer >= n_layers => Err(invalid(format!(
                "layer {layer} is too deep for a model of {n_layers} layers, which count from 0"
            ))),
            _ => Ok(()),
        }
    }
}

impl Schedule {
    /// Whether fresh and stored KV are compared at `layer`, the first time at `check_layer`.
    pub(crate) fn compares_at(self, layer: usize, check_layer: usize) -> bool {
        match self {
            Self::Fixed => layer == check_layer,
            Self::Gradual => layer >= check_layer,
        }
    }
}

/// The most policies of one union: each may cost a separate probe.
const MAX_UNION: usize = 4;

fn validate_union(policies: &[Policy], n_layers: usize) -> Result<(), EngineError> {
    let invalid = |message: &str| Err(invalid(message.to_owned()));
    if policies.is_empty() {
        return invalid("a union holds no policy");
    }
    if policies.len() > MAX_UNION {
        return invalid("a union holds more than 4 policies");
    }
    if (1..policies.len()).any(|i| policies[..i].contains(&policies[i])) {
        return invalid("a union names a policy twice");
    }
    let nested = |policy: &Policy| matches!(policy, Policy::Union(_) | Policy::All);
    if policies.iter().any(nested) {
        return invalid("a union can hold neither another union nor `all`");
    }
    let n_checks = policies.iter().filter_map(Policy::check_layer).count();
    if n_checks > 1 {
        return invalid("a union can hold only one hkvd: rows are compared at one layer");
    }
    policies
        .iter()
        .try_for_each(|policy| policy.validate(n_layers))
}

fn invalid(message: String) -> EngineError {
    EngineError::InvalidRequest {
        field: "selection",
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn expect_refused(policy: &Policy, reason: &str) {
        match policy.validate(4).unwrap_err() {
            EngineError::InvalidRequest { field, message } => {
                assert_eq!(field, "selection", "{policy}");
                assert!(message.contains(reason), "{policy}: {message}");
            }
            other => panic!("{policy}: {other}"),
        }
    }

    #[test]
    fn what_a_model_cannot_do_is_refused_by_field() {
        for (text, reason) in [
            ("hkvd@4", "layer 4 is too deep for a model of 4 layers"),
            ("anchors@1.4", "layer 4 is too deep"),
            ("first-k+hkvd@9", "layer 9 is too deep"),
            ("hkvd@1+hkvd@2", "only one hkvd"),
            ("query+first-k+query", "twice"),
            ("query+query/all+first-k+anchors+random", "more than 4"),
        ] {
            expect_refused(&text.parse().unwrap(), reason);
        }
        let nested = Policy::Union(vec![Policy::FirstK, Policy::All]);
        expect_refused(&nested, "neither another union nor `all`");
        expect_refused(&Policy::Union(Vec::new()), "holds no policy");
    }
}
