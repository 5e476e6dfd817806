//! The work of a plan, counted before it runs: what a cost model needs to foresee its time. Pure.
//!
//! Follows `choose_rows` and `Run::layers` step by step; a test holds its rows and bytes against
//! what runs report.

use super::plan::{ChunkState, FusionPlan};
use super::policy::{self, Candidates, Check, Member, Probe, ProbeKeys};
use super::rows::{always_rows, candidates, first_reads};
use super::selection::{Policy, Pooling};
use crate::config::ModelConfig;
use crate::engine::ModelInfo;

/// What a plan will do, in the order in which it does it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanWork {
    /// Layers of the policies' probes, then the layers of the prefill.
    pub steps: Vec<StepWork>,
    /// Per chunk the first layer that is read of its stored KV; `None` where none is.
    pub first_reads: Vec<Option<usize>>,
    /// Rows of each chunk.
    pub chunk_rows: Vec<usize>,
}

/// One layer of a probe or of the prefill.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepWork {
    pub layer_idx: usize,
    /// Stored rows placed before the rows of this step are computed: the step waits for them.
    pub rows_placed: usize,
    /// Rows whose K and V are projected.
    pub rows_projected: usize,
    /// Of these, rows that go through attention and MLP.
    pub rows_forwarded: usize,
    /// Row and visible key, over all rows that attend. Rows that a policy will choose count as the
    /// mean of those it chooses from.
    pub attention_pairs: f64,
}

impl StepWork {
    /// Floating point operations of the projections and the MLP.
    pub fn matmul_flop(&self, config: &ModelConfig) -> f64 {
        let q_width = (config.num_attention_heads * config.head_dim) as f64;
        let kv_width = (config.num_key_value_heads * config.head_dim) as f64;
        let (hidden, mlp) = (config.hidden_size as f64, config.intermediate_size as f64);
        let projected = self.rows_projected as f64 * 4.0 * hidden * kv_width;
        let forwarded = self.rows_forwarded as f64 * 2.0 * hidden * (2.0 * q_width + 3.0 * mlp);
        projected + forwarded
    }

    /// Floating point operations of scores and weighted values.
    pub fn attention_flop(&self, config: &ModelConfig) -> f64 {
        let q_width = (config.num_attention_heads * config.head_dim) as f64;
        self.attention_pairs * 4.0 * q_width
    }
}

impl PlanWork {
    /// As [`super::FuseReport::rows_forwarded`] will say.
    pub fn rows_forwarded(&self) -> usize {
        self.steps.iter().map(|step| step.rows_forwarded).sum()
    }

    /// Stored bytes of a layer of each chunk that is read at it.
    pub fn layer_bytes<'a>(
        &'a self,
        layer_idx: usize,
        model: &'a ModelInfo,
    ) -> impl Iterator<Item = (usize, u64)> + 'a {
        let is_read = move |first: &Option<usize>| first.is_some_and(|first| first <= layer_idx);
        let chunks = self.first_reads.iter().zip(&self.chunk_rows).enumerate();
        chunks
            .filter(move |(_, (first, _))| is_read(first))
            .map(|(chunk, (_, &rows))| {
                (
                    chunk,
                    model.identity.block_span(rows).payload_bytes() as u64,
                )
            })
    }
}

impl FusionPlan {
    /// Counts what the plan will do. `prefix_cached`: the prompt's prefix is in the prefix cache.
    pub fn work(&self, model: &ModelInfo, prefix_cached: bool) -> PlanWork {
        let mut tally = Tally::new(self, &model.config, prefix_cached);
        let kept_at = tally.probe();
        tally.prefill(&kept_at);
        PlanWork {
            steps: tally.steps,
            first_reads: tally.first_reads,
            chunk_rows: (0..self.chunk_states().len())
                .map(|chunk| self.chunk_rows(chunk).len())
                .collect(),
        }
    }
}

/// A count under way.
struct Tally<'a> {
    plan: &'a FusionPlan,
    config: &'a ModelConfig,
    /// Positions computed at every layer.
    always: Vec<usize>,
    candidates: Candidates,
    candidate_rows: Vec<usize>,
    first_reads: Vec<Option<usize>>,
    /// Layers below this have been placed.
    n_placed: usize,
    /// Visible keys of the rows of `always` and of the candidates, by sliding window.
    visible: Vec<(Option<usize>, f64, f64)>,
    steps: Vec<StepWork>,
}

/// Candidates alive at the input of layer 0, and the comparison that narrows them.
struct Kept {
    n_first: usize,
    check: Option<Check>,
}

impl<'a> Tally<'a> {
    fn new(plan: &'a FusionPlan, config: &'a ModelConfig, prefix_cached: bool) -> Self {
        let n_layers = config.num_hidden_layers;
        let candidates = candidates(plan, n_layers);
        let always: Vec<usize> = match plan.mode().as_blend() {
            Some(blend) if blend.selection.policy == Policy::All => (0..plan.n_tokens()).collect(),
            _ => always_rows(plan, prefix_cached).into_iter().collect(),
        };
        let mut tally = Self {
            first_reads: first_reads(plan, n_layers),
            candidate_rows: candidates.rows(),
            visible: Vec::new(),
            n_placed: 0,
            steps: Vec::new(),
            always,
            candidates,
            plan,
            config,
        };
        for &window in &config.sliding_windows {
            if !tally.visible.iter().any(|(known, ..)| *known == window) {
                let of_always = n_visible(&tally.always, window);
                let of_candidates = n_visible(&tally.candidate_rows, window);
                tally.visible.push((window, of_always, of_candidates));
            }
        }
        tally
    }

    /// The policies' looks at the prompt.
    fn probe(&mut self) -> Kept {
        let none = Kept {
            n_first: 0,
            check: None,
        };
        let Some(blend) = self.plan.mode().as_blend() else {
            return none;
        };
        let policy = &blend.selection.policy;
        if self.candidate_rows.is_empty() || *policy == Policy::All {
            return none;
        }
        let mut check = None;
        for member in policy::members(policy, self.config.num_hidden_layers) {
            match member {
                Member::Checked(found) => check = Some(found),
                Member::Ranked(ranker) => match ranker.probe() {
                    Some(Probe::Question {
                        layers,
                        keys,
                        pooling,
                    }) => self.ask(&layers, keys, pooling),
                    Some(Probe::Truth(_)) => self.prefill_in_full(),
                    None => {}
                },
            }
        }
        let n_first = match check {
            Some(_) => self.candidate_rows.len(),
            None => self.candidates.n_kept(1.0),
        };
        Kept { n_first, check }
    }

    /// A question probe: see `question_attention`.
    fn ask(&mut self, layers: &[usize], keys: ProbeKeys, pooling: Pooling) {
        let (n_rows, n_tokens) = (self.always.len(), self.plan.n_tokens());
        let deepest = layers.last().copied().unwrap_or_default();
        let seen = match keys {
            ProbeKeys::All => 1.0,
            ProbeKeys::Anchors => self.n_held() as f64 / n_tokens as f64,
        };
        let n_asking = match pooling {
            Pooling::Final => 1,
            Pooling::Mean | Pooling::Max => self.plan.question_rows().len(),
        };
        for layer_idx in 0..=deepest {
            let goes_on = layer_idx < deepest;
            let mut attention_pairs = 0.0;
            if goes_on {
                attention_pairs += self.pairs(layer_idx, 0) * seen;
            }
            if layers.contains(&layer_idx) {
                attention_pairs += (n_asking * n_tokens) as f64;
            }
            let step = StepWork {
                layer_idx,
                rows_placed: self.place(layer_idx),
                rows_projected: n_rows,
                rows_forwarded: if goes_on { n_rows } else { 0 },
                attention_pairs,
            };
            self.steps.push(step);
        }
    }

    /// The full prefill of a probe for the truth.
    fn prefill_in_full(&mut self) {
        let n_tokens = self.plan.n_tokens();
        let rows: Vec<usize> = (0..n_tokens).collect();
        for layer_idx in 0..self.config.num_hidden_layers {
            let step = StepWork {
                layer_idx,
                rows_placed: self.place(layer_idx),
                rows_projected: n_tokens,
                rows_forwarded: n_tokens,
                attention_pairs: n_visible(&rows, self.config.sliding_windows[layer_idx]),
            };
            self.steps.push(step);
        }
    }

    /// The layer loop: see `Run::layers`.
    fn prefill(&mut self, kept: &Kept) {
        let n_layers = self.config.num_hidden_layers;
        let mut n_alive = kept.n_first; // candidates alive
        for layer_idx in 0..n_layers {
            let rows_placed = self.place(layer_idx);
            let rows_projected = self.always.len() + n_alive;
            let check = kept.check.filter(|check| check.at(layer_idx).is_some());
            if let Some(check) = check {
                let factor = check.factor(layer_idx, n_layers);
                n_alive = n_alive.min(self.candidates.n_kept(factor));
            }
            let (rows_forwarded, attention_pairs) = if layer_idx + 1 == n_layers {
                let last = [self.plan.n_tokens() - 1];
                (1, n_visible(&last, self.config.sliding_windows[layer_idx]))
            } else {
                (self.always.len() + n_alive, self.pairs(layer_idx, n_alive))
            };
            self.steps.push(StepWork {
                layer_idx,
                rows_placed,
                rows_projected,
                rows_forwarded,
                attention_pairs,
            });
        }
    }

    /// Stored rows that this layer places, if it has not been placed before.
    fn place(&mut self, layer_idx: usize) -> usize {
        if layer_idx < self.n_placed {
            return 0;
        }
        self.n_placed = layer_idx + 1;
        let is_read =
            |&chunk: &usize| self.first_reads[chunk].is_some_and(|first| first <= layer_idx);
        let chunks = (0..self.first_reads.len()).filter(is_read);
        chunks.map(|chunk| self.plan.chunk_rows(chunk).len()).sum()
    }

    /// Keys seen by the rows of `always` and `n_alive` candidates.
    fn pairs(&self, layer_idx: usize, n_alive: usize) -> f64 {
        let window = self.config.sliding_windows[layer_idx];
        let known = self.visible.iter().find(|(known, ..)| *known == window);
        let (of_always, of_candidates) = known.map_or((0.0, 0.0), |found| (found.1, found.2));
        let share = n_alive as f64 / self.candidate_rows.len().max(1) as f64;
        of_always + share * of_candidates
    }

    /// Rows that a question sees on its way over anchors: see `held_rows`.
    fn n_held(&self) -> usize {
        let states = self.plan.chunk_states();
        let hits = (0..states.len()).filter(|&chunk| states[chunk] != ChunkState::Miss);
        let anchors: usize = hits.map(|chunk| self.plan.anchor_rows(chunk).len()).sum();
        let prefix = self.plan.segments().prefix.len();
        let behind = self.always.iter().filter(|&&row| row >= prefix).count();
        prefix + anchors + behind
    }
}

/// Keys that all `rows` see together.
fn n_visible(rows: &[usize], window: Option<usize>) -> f64 {
    let of_row = |&row: &usize| (row + 1).min(window.unwrap_or(usize::MAX)) as f64;
    rows.iter().map(of_row).sum()
}
