//! Which rows a plan computes, loads and lets a policy choose from. Pure.

use std::collections::BTreeSet;

use super::blend::{Blend, Budget, Mode};
use super::loader::LayerReads;
use super::plan::{ChunkState, FusionPlan};
use super::policy::{self, Candidates};

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
    let blend = match plan.mode() {
        Mode::Blend(blend) => Some(blend),
        Mode::Full | Mode::Reuse => None,
    };
    Candidates {
        chunks: loose.map(|i| plan.chunk_rows(i)).collect(),
        n_layers,
        ratio: blend.map_or(0.0, |blend| blend.ratio),
        budget: blend.map_or(Budget::Prompt, Blend::budget),
    }
}

/// Exact chunks are read from layer 0, the others from the first layer the policy places them at.
pub(super) fn layer_reads(plan: &FusionPlan, n_layers: usize) -> Vec<LayerReads> {
    let first_loose = match plan.mode() {
        Mode::Full => return Vec::new(),
        Mode::Reuse => 0,
        Mode::Blend(blend) => policy::first_loaded_layer(blend, n_layers),
    };
    let states = plan.chunk_states();
    let reads = (0..n_layers).map(|layer| {
        let wanted = |&i: &usize| match states[i] {
            ChunkState::Miss => false,
            ChunkState::Hit { exact } => exact || layer >= first_loose,
        };
        let chunks = (0..states.len())
            .filter(wanted)
            .map(|i| (i, plan.chunk_rows(i)));
        LayerReads {
            layer,
            chunks: chunks.collect(),
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
