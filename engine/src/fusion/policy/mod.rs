//! Which rows of loaded chunks are recomputed: one file per policy, behind one trait.
//!
//! A policy gives each candidate row a score; `select` spends the budget on the best. To add one,
//! write its file, add it to [`Policy`], to [`member`] and to the notation.

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
use super::selection::{Budget, Deviation, Policy, Pooling};

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

/// What one policy contributes: scores from a ranker, or the comparison at a layer.
pub(crate) enum Member {
    Ranked(Box<dyn Ranker>),
    Checked(Check),
}

/// The members of a policy, in the order in which a union lists them. None for `all`, which does
/// not choose.
pub(crate) fn members(policy: &Policy, n_layers: usize) -> Vec<Member> {
    match policy {
        Policy::Union(policies) => policies
            .iter()
            .filter_map(|policy| member(policy, n_layers))
            .collect(),
        policy => member(policy, n_layers).into_iter().collect(),
    }
}

/// The first layer at which stored KV that is not exact is needed: with a comparison its layer,
/// unless a probe needs all of it before.
pub(crate) fn first_loaded_layer(policy: &Policy, n_layers: usize) -> usize {
    let is_probed = |member: &Member| match member {
        Member::Ranked(ranker) => ranker.probe().is_some(),
        Member::Checked(_) => false,
    };
    match policy.check_layer() {
        Some(layer) if !members(policy, n_layers).iter().any(is_probed) => layer,
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
