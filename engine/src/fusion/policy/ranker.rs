//! The interface of a policy: it takes candidates and what a probe observed of the prompt, and returns scores.

use std::ops::Range;

use crate::fusion::selection::{Budget, Deviation, Pooling};

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

    /// The budget for `n` of the candidates: `factor` times `ceil(ratio x n)`.
    pub fn quota(&self, n: usize, factor: f64) -> usize {
        let share = ((self.ratio * n as f64).ceil() as usize).min(n);
        (share as f64 * factor).ceil() as usize
    }

    /// How many candidates `factor` times the budget keeps, however they are ranked.
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
    /// What must be observed of the prompt before rows can be scored. The probe makes up the policy's cost.
    fn probe(&self) -> Option<Probe> {
        None
    }

    /// A non-negative score per candidate row; rows with larger scores are recomputed first.
    ///
    /// `observed` has one row of values per probed layer, each as long as the candidates.
    fn scores(&self, candidates: &Candidates, observed: &[Vec<f32>]) -> Vec<f32>;
}

/// An observation of the prompt before the fused prefill.
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

/// What the question attends to below the layers that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeKeys {
    All,
    Anchors,
}

/// The mean over layers of what was observed, one value per candidate.
pub(super) fn mean_over_layers(observed: &[Vec<f32>], n_candidates: usize) -> Vec<f32> {
    let n = observed.len().max(1) as f32;
    let of_candidate = |i: usize| observed.iter().map(|layer| layer[i]).sum::<f32>() / n;
    (0..n_candidates).map(of_candidate).collect()
}
