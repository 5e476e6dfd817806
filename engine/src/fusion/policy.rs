//! Which rows of loaded chunks are recomputed: one file per policy, behind one trait.
//!
//! A policy gives each candidate row a score; `select` spends the budget on the best rows. To add a policy,
//! write its file, add it to [`Policy`], to [`member`] and to the notation (`fusion/notation.rs`).

mod anchors;
mod first_k;
mod hkvd;
mod oracle;
mod query;
mod random;
mod ranker;
mod select;

pub(crate) use self::hkvd::Check;
pub(crate) use self::ranker::{Candidates, Probe, ProbeKeys, Ranker};
pub(crate) use self::select::Selector;
use super::selection::Policy;

/// What one policy contributes: scores from a ranker, or the comparison at a layer.
pub(crate) enum Member {
    Ranked(Box<dyn Ranker>),
    Checked(Check),
}

/// The members of a policy, in the order in which a union lists them. None for `all`, which does
/// not choose rows.
pub(crate) fn members(policy: &Policy, n_layers: usize) -> Vec<Member> {
    match policy {
        Policy::Union(policies) => policies
            .iter()
            .filter_map(|policy| member(policy, n_layers))
            .collect(),
        policy => member(policy, n_layers).into_iter().collect(),
    }
}

/// The first layer at which stored KV that is not exact is needed: the layer of the comparison, if there is one,
/// unless a probe needs all layers before that.
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
