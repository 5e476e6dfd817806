//! What runs at each layer of a prompt, as plain data: the rows that are computed, the stored KV that is placed, what
//! is read, corrected and compared, and the rows that go on.
//!
//! [`LayerSchedule::prefill`] computes it once from the plan; `executor` runs it, and `work` counts the same value for
//! forecasts. Pure.

use std::ops::Range;
use std::sync::Arc;

use super::blend::Mode;
use super::plan::{ChunkState, FusionPlan};
use super::policy::{self, Candidates, Check, Member, Probe, ProbeKeys};
use super::selection::{Budget, Correction, Deviation, Policy, Pooling, Selection};

/// The passes of one prompt over the layers, in the order in which they run.
pub(crate) struct LayerSchedule {
    pub n_layers: usize,
    /// Rows that no policy decides about, computed at every layer; ascending.
    pub always: Arc<[usize]>,
    /// The rows that policies choose from, by chunk.
    pub candidates: Candidates,
    /// The rows of all candidates, ascending.
    pub candidate_rows: Arc<[usize]>,
    /// Whether a policy chooses among the candidates.
    pub chooses: bool,
    /// The policies' probes of the prompt, then the prefill.
    pub passes: Vec<Pass>,
    /// Per chunk the first layer that is read of its stored KV; `None` if none is.
    pub first_reads: Vec<Option<usize>>,
}

/// One pass of rows through the layers.
#[derive(Clone)]
pub(crate) struct Pass {
    pub purpose: Purpose,
    /// Rows computed at each layer of the pass, whatever a policy chooses; ascending.
    pub fixed: Arc<[usize]>,
    /// The positions that the rows of the pass may attend to; `None` if they see all before them.
    pub sees: Option<Arc<[usize]>>,
    pub steps: Arc<[LayerStep]>,
}

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Completes the KV.
    Compute,
    /// Reads the attention of the question's last `n_asking` tokens.
    Question { pooling: Pooling, n_asking: usize },
    /// Reads the deviation of stored KV from a full prefill, computed in a separate cache.
    Truth(Deviation),
}

/// One layer of a pass.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LayerStep {
    pub layer_idx: usize,
    /// Stored rows placed before the rows of this step are computed; 0 if an earlier pass has placed them.
    pub rows_placed: usize,
    /// Candidates whose K and V are computed, besides the fixed rows.
    pub n_candidates: usize,
    /// Whether this step reads the values that the pass exists for: see [`Purpose`].
    pub reads: bool,
    /// Whether stored rows that are not recomputed are corrected by those that are ([`Correction::Mean`]).
    pub corrects: bool,
    /// Candidates that go on after fresh and stored KV were compared; `None` if nothing is compared.
    pub n_kept: Option<usize>,
    pub forward: Forward,
}

/// The rows that go through a layer's attention and MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forward {
    /// All rows still alive.
    Alive,
    /// The last row, for the next token's logits.
    Last,
    /// No row: only K and V are needed.
    None,
}

impl LayerStep {
    /// A step that computes its rows and does nothing else.
    fn plain(layer_idx: usize) -> Self {
        Self {
            layer_idx,
            rows_placed: 0,
            n_candidates: 0,
            reads: false,
            corrects: false,
            n_kept: None,
            forward: Forward::Alive,
        }
    }

    /// Whether fresh KV is held against the stored KV placed at this layer.
    fn compares_with_stored(&self, purpose: Purpose) -> bool {
        self.corrects || self.n_kept.is_some() || matches!(purpose, Purpose::Truth(_))
    }
}

/// The steps of a decode step: one row through all layers.
pub(crate) fn decode_steps(n_layers: usize) -> Arc<[LayerStep]> {
    (0..n_layers).map(LayerStep::plain).collect()
}

impl LayerSchedule {
    /// What a prefill of `plan` runs. `at_end`: the rows that go through the last layer.
    pub(crate) fn prefill(
        plan: &FusionPlan,
        n_layers: usize,
        prefix_cached: bool,
        at_end: Forward,
    ) -> Self {
        let mut building = Building::new(plan, n_layers, prefix_cached);
        building.probes();
        building.compute(at_end);
        building.schedule
    }

    /// What a map of deviations runs: a full prefill, compared with the stored KV.
    pub(crate) fn deviation(plan: &FusionPlan, n_layers: usize) -> Self {
        let mut building = Building::new(plan, n_layers, false);
        building.truth(Deviation::Kv);
        building.schedule
    }

    /// Per layer, whether the stored KV placed there is needed again, for comparison or correction.
    pub(crate) fn kept_layers(&self) -> Vec<bool> {
        let mut kept = vec![false; self.n_layers];
        for pass in &self.passes {
            for step in pass.steps.iter() {
                kept[step.layer_idx] |= step.compares_with_stored(pass.purpose);
            }
        }
        kept
    }
}

/// A schedule under construction.
struct Building<'a> {
    plan: &'a FusionPlan,
    /// Layers below this have been placed by the passes so far.
    n_placed: usize,
    schedule: LayerSchedule,
}

impl<'a> Building<'a> {
    fn new(plan: &'a FusionPlan, n_layers: usize, prefix_cached: bool) -> Self {
        let candidates = candidates(plan, n_layers);
        let has_candidates = !candidates.chunks.is_empty();
        let selection = selection(plan);
        let chooses = selection.is_some_and(|it| has_candidates && it.policy != Policy::All);
        Self {
            plan,
            n_placed: 0,
            schedule: LayerSchedule {
                n_layers,
                chooses,
                always: always_rows(plan, prefix_cached).into(),
                candidate_rows: candidates.rows().into(),
                candidates,
                passes: Vec::new(),
                first_reads: first_reads(plan, n_layers),
            },
        }
    }

    /// The selection, if it chooses rows.
    fn choosing(&self) -> Option<&'a Selection> {
        selection(self.plan).filter(|_| self.schedule.chooses)
    }

    /// The policies' probes of the prompt, in the order in which a union lists them.
    fn probes(&mut self) {
        let Some(selection) = self.choosing() else {
            return;
        };
        for member in policy::members(&selection.policy, self.schedule.n_layers) {
            match probe(&member) {
                Some(Probe::Question {
                    layers,
                    keys,
                    pooling,
                }) => self.question(&layers, keys, pooling),
                Some(Probe::Truth(deviation)) => self.truth(deviation),
                None => {}
            }
        }
    }

    /// A pass of the question and missed chunks over stored KV, up to the deepest of `layers` (ascending).
    fn question(&mut self, layers: &[usize], keys: ProbeKeys, pooling: Pooling) {
        let n_asking = match pooling {
            Pooling::Final => 1,
            Pooling::Mean | Pooling::Max => self.plan.question_rows().len(),
        };
        let deepest = layers.last().copied().unwrap_or_default();
        let steps = (0..=deepest).map(|layer_idx| LayerStep {
            rows_placed: self.place(layer_idx),
            reads: layers.contains(&layer_idx),
            forward: match layer_idx < deepest {
                true => Forward::Alive,
                false => Forward::None,
            },
            ..LayerStep::plain(layer_idx)
        });
        let steps = steps.collect();
        let always = &self.schedule.always;
        let pass = Pass {
            purpose: Purpose::Question { pooling, n_asking },
            fixed: always.clone(),
            sees: (keys == ProbeKeys::Anchors).then(|| anchored_rows(self.plan, always)),
            steps,
        };
        self.schedule.passes.push(pass);
    }

    /// A full prefill in a separate cache.
    fn truth(&mut self, deviation: Deviation) {
        let steps = (0..self.schedule.n_layers).map(|layer_idx| LayerStep {
            rows_placed: self.place(layer_idx),
            reads: true,
            ..LayerStep::plain(layer_idx)
        });
        let pass = Pass {
            steps: steps.collect(),
            purpose: Purpose::Truth(deviation),
            fixed: (0..self.plan.n_tokens()).collect(),
            sees: None,
        };
        self.schedule.passes.push(pass);
    }

    /// The prefill itself.
    fn compute(&mut self, at_end: Forward) {
        let check = self
            .choosing()
            .and_then(|it| check(&it.policy, self.schedule.n_layers));
        let mut n_alive = self.n_first(check); // candidates alive
        let corrects = self
            .choosing()
            .is_some_and(|selection| selection.correction == Correction::Mean);
        let mut steps = Vec::with_capacity(self.schedule.n_layers);
        for layer_idx in 0..self.schedule.n_layers {
            let n_kept = check
                .filter(|check| check.at(layer_idx).is_some() && n_alive > 0)
                .map(|check| check.factor(layer_idx, self.schedule.n_layers))
                .map(|factor| n_alive.min(self.schedule.candidates.n_kept(factor)));
            steps.push(LayerStep {
                rows_placed: self.place(layer_idx),
                n_candidates: n_alive,
                corrects,
                n_kept,
                forward: match layer_idx + 1 == self.schedule.n_layers {
                    true => at_end,
                    false => Forward::Alive,
                },
                ..LayerStep::plain(layer_idx)
            });
            n_alive = n_kept.unwrap_or(n_alive);
        }
        let pass = Pass {
            purpose: Purpose::Compute,
            fixed: self.fixed_rows(),
            sees: None,
            steps: steps.into(),
        };
        self.schedule.passes.push(pass);
    }

    /// Candidates alive at the input of layer 0.
    fn n_first(&self, check: Option<Check>) -> usize {
        match (self.choosing(), check) {
            (None, _) => 0,
            (Some(_), Some(_)) => self.schedule.candidate_rows.len(),
            (Some(_), None) => self.schedule.candidates.n_kept(1.0),
        }
    }

    /// Rows that the prefill computes at every layer.
    fn fixed_rows(&self) -> Arc<[usize]> {
        match selection(self.plan) {
            Some(selection) if selection.policy == Policy::All => {
                (0..self.plan.n_tokens()).collect()
            }
            _ => self.schedule.always.clone(),
        }
    }

    /// Stored rows that this layer places, if no earlier pass has placed it.
    fn place(&mut self, layer_idx: usize) -> usize {
        if layer_idx < self.n_placed {
            return 0;
        }
        self.n_placed = layer_idx + 1;
        let first_reads = &self.schedule.first_reads;
        let is_read = |&chunk: &usize| first_reads[chunk].is_some_and(|first| first <= layer_idx);
        let chunks = (0..first_reads.len()).filter(is_read);
        chunks.map(|chunk| self.plan.chunk_rows(chunk).len()).sum()
    }
}

/// The selection of a plan's mode, if it has one.
fn selection(plan: &FusionPlan) -> Option<&Selection> {
    plan.mode().as_blend().map(|blend| &blend.selection)
}

/// The comparison at a layer that one of the policies wants.
fn check(policy: &Policy, n_layers: usize) -> Option<Check> {
    let members = policy::members(policy, n_layers);
    members.into_iter().find_map(|member| match member {
        Member::Checked(check) => Some(check),
        Member::Ranked(_) => None,
    })
}

/// What a policy must observe before it can choose rows.
fn probe(member: &Member) -> Option<Probe> {
    match member {
        Member::Ranked(ranker) => ranker.probe(),
        Member::Checked(_) => None,
    }
}

/// Rows no policy decides about, computed at every layer: all of them in full prefill. Ascending.
fn always_rows(plan: &FusionPlan, prefix_cached: bool) -> Vec<usize> {
    let full = *plan.mode() == Mode::Full;
    let prefix = if prefix_cached {
        0
    } else {
        plan.segments().prefix.len()
    };
    let chunks = plan.rows_of(|state| full || state == ChunkState::Miss);
    (0..prefix)
        .chain(chunks)
        .chain(plan.question_rows())
        .collect()
}

pub(super) fn candidates(plan: &FusionPlan, n_layers: usize) -> Candidates {
    let states = plan.chunk_states();
    let loads = *plan.mode() != Mode::Full;
    let is_candidate = |&i: &usize| loads && states[i] == ChunkState::Hit { exact: false };
    let blend = plan.mode().as_blend();
    Candidates {
        chunks: (0..states.len())
            .filter(is_candidate)
            .map(|i| plan.chunk_rows(i))
            .collect(),
        n_layers,
        ratio: blend.map_or(0.0, |blend| blend.ratio.get()),
        budget: selection(plan).map_or(Budget::Prompt, Selection::applied_budget),
    }
}

/// The rows that a question may attend to when it runs over anchors: the prefix, anchors in place of each stored chunk,
/// missed chunks and the question itself. Ascending.
fn anchored_rows(plan: &FusionPlan, always: &[usize]) -> Arc<[usize]> {
    let states = plan.chunk_states();
    let hits = (0..states.len()).filter(|&i| states[i] != ChunkState::Miss);
    let mut rows: Vec<usize> = (0..plan.segments().prefix.len())
        .chain(hits.flat_map(|i| plan.anchor_rows(i)))
        .chain(always.iter().copied())
        .collect();
    rows.sort_unstable();
    rows.dedup();
    rows.into()
}

/// What is read of one layer.
#[derive(Debug, Clone)]
pub(crate) struct LayerReads {
    pub layer: usize,
    /// Chunk index and its positions, ascending.
    pub chunks: Vec<(usize, Range<usize>)>,
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

/// Per chunk the first layer that is read of its stored KV; `None` if none is. Exact chunks are read from layer 0,
/// the others from the first layer the policy needs them at.
fn first_reads(plan: &FusionPlan, n_layers: usize) -> Vec<Option<usize>> {
    let loads = *plan.mode() != Mode::Full;
    let policy = selection(plan).map(|selection| &selection.policy);
    let first_inexact = policy.map_or(0, |policy| policy::first_loaded_layer(policy, n_layers));
    let first = |&state: &ChunkState| match state {
        ChunkState::Hit { exact } if loads => Some(if exact { 0 } else { first_inexact }),
        ChunkState::Hit { .. } | ChunkState::Miss => None,
    };
    plan.chunk_states().iter().map(first).collect()
}

#[cfg(test)]
mod tests;
