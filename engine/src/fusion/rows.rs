//! Which rows a plan computes, loads and lets a policy choose from. Pure.

use std::collections::BTreeSet;

use super::blend::{Blend, Mode};
use super::loader::LayerReads;
use super::plan::{ChunkState, FusionPlan};
use super::policy::{self, Candidates};
use super::selection::Budget;

/// Rows no policy decides about, computed at every layer: all of them in full prefill.
pub(super) fn always_rows(plan: &FusionPlan, prefix_cached: bool) -> BTreeSet<usize> {
    let prefix_len = plan.segments().prefix.len();
    let mut rows: BTreeSet<usize> = plan.question_rows().collect();
    if !prefix_cached {
        rows.extend(0..prefix_len);
    }
    let full = *plan.mode() == Mode::Full;
    rows.extend(plan.rows_of(|state| full || state == ChunkState::Miss));
    rows
}

pub(super) fn candidates(plan: &FusionPlan, n_layers: usize) -> Candidates {
    let states = plan.chunk_states();
    let loads = *plan.mode() != Mode::Full;
    let loose =
        (0..states.len()).filter(|&i| loads && states[i] == ChunkState::Hit { exact: false });
    let blend = plan.mode().as_blend();
    Candidates {
        chunks: loose.map(|i| plan.chunk_rows(i)).collect(),
        n_layers,
        ratio: blend.map_or(0.0, |blend| blend.ratio.get()),
        budget: blend.map_or(Budget::Prompt, |blend| blend.selection.applied_budget()),
    }
}

/// Per chunk the first layer that is read of its stored KV; `None` where none is. Exact chunks are read from layer 0,
/// the others from the first layer the policy places them at.
pub(super) fn first_reads(plan: &FusionPlan, n_layers: usize) -> Vec<Option<usize>> {
    let loads = *plan.mode() != Mode::Full;
    let first_layer = |blend: &Blend| policy::first_loaded_layer(&blend.selection.policy, n_layers);
    let first_loose = plan.mode().as_blend().map_or(0, first_layer);
    let first = |&state: &ChunkState| match state {
        ChunkState::Hit { exact } if loads => Some(if exact { 0 } else { first_loose }),
        ChunkState::Hit { .. } | ChunkState::Miss => None,
    };
    plan.chunk_states().iter().map(first).collect()
}

/// What is read of the stored chunks, layer by layer.
pub(super) fn layer_reads(plan: &FusionPlan, n_layers: usize) -> Vec<LayerReads> {
    let first = first_reads(plan, n_layers);
    let reads = (0..n_layers).map(|layer| {
        let is_read = |&i: &usize| first[i].is_some_and(|first| first <= layer);
        let chunks = (0..first.len()).filter(is_read);
        LayerReads {
            layer,
            chunks: chunks.map(|i| (i, plan.chunk_rows(i))).collect(),
        }
    });
    reads.filter(|read| !read.chunks.is_empty()).collect()
}

/// Where each of `rows` stands in `all`; both ascending, `rows` a part of `all`.
pub(super) fn indices(rows: &[usize], all: &[usize]) -> Vec<usize> {
    rows.iter()
        .filter_map(|row| all.binary_search(row).ok())
        .collect()
}
