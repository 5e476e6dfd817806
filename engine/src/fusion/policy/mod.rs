//! Which rows of loaded chunks are recomputed: one file per policy, behind one trait.
//!
//! A policy gives each candidate row a score; `select` spends the budget on the best. To add one,
//! write its file, add it to [`Policy`], to [`ranker`] and to the notation.

mod anchors;
mod first_k;
mod hkvd;
mod oracle;
mod query;
mod random;
mod select;

use std::ops::Range;

pub(crate) use self::hkvd::Check;
pub(crate) use self::select::Selector;
use super::blend::{Blend, Budget};
use crate::error::EngineError;

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
    /// Uniformly random rows: the baseline any policy has to beat.
    Random { seed: u64 },
    /// The true deviation, from a real full prefill: what selection by deviation can reach at best.
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

/// The layers at which the question's attention is read.
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
    /// That of the prompt's last token alone.
    Final,
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

    /// The layer at which fresh and stored KV are compared; `None` where nothing is.
    pub fn check_layer(&self) -> Option<usize> {
        match self {
            Self::Hkvd { check_layer, .. } => Some(*check_layer),
            Self::Union(policies) => policies.iter().find_map(Self::check_layer),
            _ => None,
        }
    }

    /// Whether fresh and stored KV are compared at `layer`.
    pub(crate) fn compares_at(&self, layer: usize) -> bool {
        match self {
            Self::Hkvd {
                check_layer,
                schedule,
                ..
            } => schedule.compares_at(layer, *check_layer),
            Self::Union(policies) => policies.iter().any(|policy| policy.compares_at(layer)),
            _ => false,
        }
    }

    pub(crate) fn validate(&self, n_layers: usize) -> Result<(), EngineError> {
        let too_deep = |field, layer| EngineError::InvalidRequest {
            field,
            message: format!("{layer} is too deep for a model of {n_layers} layers"),
        };
        match self {
            Self::Hkvd { check_layer, .. } if *check_layer >= n_layers => {
                Err(too_deep("check_layer", check_layer))
            }
            Self::Anchors { layers, .. } => match layers.iter().find(|&&layer| layer >= n_layers) {
                Some(layer) => Err(too_deep("policy", layer)),
                None => Ok(()),
            },
            Self::Union(policies) => validate_union(policies, n_layers),
            _ => Ok(()),
        }
    }
}

/// Policies of one union: each may cost a probe of its own.
const MAX_UNION: usize = 4;

fn validate_union(policies: &[Policy], n_layers: usize) -> Result<(), EngineError> {
    let invalid = |message: &str| {
        Err(EngineError::InvalidRequest {
            field: "policy",
            message: message.to_owned(),
        })
    };
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
        return invalid("a union can hold one hkvd only: rows are compared at one layer");
    }
    policies
        .iter()
        .try_for_each(|policy| policy.validate(n_layers))
}

/// The rows a policy may choose from: non-exact chunks whose KV is loaded.
pub(crate) struct Candidates {
    /// Positions of each such chunk, ascending.
    pub chunks: Vec<Range<usize>>,
    pub n_layers: usize,
    pub ratio: f64,
    pub budget: Budget,
}

impl Candidates {
    /// All candidate rows, ascending.
    pub fn rows(&self) -> Vec<usize> {
        self.chunks.iter().cloned().flatten().collect()
    }

    /// The budget of `n` of them: `factor` times `ceil(ratio x n)`.
    pub fn quota(&self, n: usize, factor: f64) -> usize {
        let share = ((self.ratio * n as f64).ceil() as usize).min(n);
        (share as f64 * factor).ceil() as usize
    }

    /// Candidates that `factor` times the budget keeps, however they are ranked.
    pub fn n_kept(&self, factor: f64) -> usize {
        let kept = |n: usize| self.quota(n, factor).min(n);
        match self.budget {
            Budget::Prompt | Budget::Score => kept(self.chunks.iter().map(Range::len).sum()),
            Budget::Length => self.chunks.iter().map(|chunk| kept(chunk.len())).sum(),
        }
    }
}

/// Scores candidate rows.
pub(crate) trait Ranker {
    /// What must be seen of the prompt before rows can be scored. The probe is the policy's cost.
    fn probe(&self) -> Option<Probe> {
        None
    }

    /// A score per candidate row, none negative; larger is recomputed first.
    ///
    /// `observed` has one row of values per probed layer, each as long as the candidates.
    fn scores(&self, candidates: &Candidates, observed: &[Vec<f32>]) -> Vec<f32>;
}

/// A look at the prompt before the fused prefill.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Probe {
    /// The question runs over stored KV up to the deepest of `layers`; its attention to the
    /// candidates is read at each of them.
    Question {
        layers: Vec<usize>,
        keys: ProbeKeys,
        pooling: Pooling,
    },
    /// A full prefill; the true deviation is read at every layer.
    Truth(Deviation),
}

/// What the question sees on its way to the layers that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeKeys {
    All,
    Anchors,
}

/// What one policy of a blend contributes: scores from a ranker, or the comparison at a layer.
pub(crate) enum Member {
    Ranked(Box<dyn Ranker>),
    Checked(Check),
}

/// The policies of a blend, in the order in which a union lists them. None for `all`, which does
/// not choose.
pub(crate) fn members(blend: &Blend, n_layers: usize) -> Vec<Member> {
    match &blend.policy {
        Policy::Union(policies) => policies
            .iter()
            .filter_map(|policy| member(policy, n_layers))
            .collect(),
        policy => member(policy, n_layers).into_iter().collect(),
    }
}

/// The first layer at which stored KV that is not exact is needed: with a comparison its layer,
/// unless a probe needs all of it before.
pub(crate) fn first_loaded_layer(blend: &Blend, n_layers: usize) -> usize {
    let is_probed = |member: &Member| match member {
        Member::Ranked(ranker) => ranker.probe().is_some(),
        Member::Checked(_) => false,
    };
    match blend.policy.check_layer() {
        Some(layer) if !members(blend, n_layers).iter().any(is_probed) => layer,
        _ => 0,
    }
}

fn member(policy: &Policy, n_layers: usize) -> Option<Member> {
    let ranked = |ranker: Box<dyn Ranker>| Some(Member::Ranked(ranker));
    match policy {
        Policy::Hkvd {
            check_layer,
            deviation,
            schedule,
        } => Some(Member::Checked(Check {
            layer: *check_layer,
            deviation: *deviation,
            schedule: *schedule,
        })),
        Policy::FirstK => ranked(Box::new(first_k::FirstK)),
        Policy::Query { layers, pooling } => {
            ranked(Box::new(query::Query::new(*layers, *pooling, n_layers)))
        }
        Policy::Anchors { layers, pooling } => {
            ranked(Box::new(anchors::Anchors::new(layers, *pooling, n_layers)))
        }
        Policy::Random { seed } => ranked(Box::new(random::Random { seed: *seed })),
        Policy::Oracle { deviation } => ranked(Box::new(oracle::Oracle {
            deviation: *deviation,
        })),
        Policy::Union(_) | Policy::All => None,
    }
}

/// The mean over layers of what was observed, one value per candidate.
fn mean_over_layers(observed: &[Vec<f32>], n_candidates: usize) -> Vec<f32> {
    let n = observed.len().max(1) as f32;
    let of_candidate = |i: usize| observed.iter().map(|layer| layer[i]).sum::<f32>() / n;
    (0..n_candidates).map(of_candidate).collect()
}
