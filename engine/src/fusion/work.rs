//! The work of a plan, counted before it runs: the input of a cost model that predicts its time. Free of side effects.
//!
//! It counts the same [`LayerSchedule`] that the executor runs; a test compares its rows and bytes with what runs
//! report.

use super::plan::FusionPlan;
use super::schedule::{Forward, LayerSchedule, LayerStep, Pass, Purpose};
use crate::config::ModelConfig;
use crate::model_info::ModelInfo;

/// What a plan will do, in the order in which it does it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanWork {
    /// Layers of the policies' probes, then the layers of the prefill.
    pub steps: Vec<StepWork>,
    /// Per chunk the first layer that is read of its stored KV; `None` if none is.
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
    /// Pairs of a row and a key visible to it, over all rows that attend. Rows that a policy will choose count
    /// as the mean of those it chooses from.
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
    /// The value that [`super::FuseReport::rows_forwarded`] will have.
    pub fn rows_forwarded(&self) -> usize {
        self.steps.iter().map(|step| step.rows_forwarded).sum()
    }

    /// Stored bytes of one layer of each chunk that is read at that layer.
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
        let config = &model.config;
        let n_layers = config.num_hidden_layers;
        let schedule = LayerSchedule::prefill(self, n_layers, prefix_cached, Forward::Last);
        let mut steps = Vec::new();
        for pass in &schedule.passes {
            let count = PassCount::new(self, pass, &schedule.candidate_rows, config);
            steps.extend(pass.steps.iter().map(|step| count.work(step)));
        }
        PlanWork {
            steps,
            first_reads: schedule.first_reads,
            chunk_rows: (0..self.chunk_states().len())
                .map(|chunk| self.chunk_rows(chunk).len())
                .collect(),
        }
    }
}

/// Counts the work of the steps of one pass.
struct PassCount<'a> {
    pass: &'a Pass,
    config: &'a ModelConfig,
    n_tokens: usize,
    n_candidates: usize,
    /// Visible keys of the fixed rows and of the candidates, by sliding window.
    visible: Vec<(Option<usize>, f64, f64)>,
}

impl<'a> PassCount<'a> {
    fn new(
        plan: &FusionPlan,
        pass: &'a Pass,
        candidates: &[usize],
        config: &'a ModelConfig,
    ) -> Self {
        let mut visible: Vec<(Option<usize>, f64, f64)> = Vec::new();
        for window in config.layers.iter().map(|layer| layer.sliding_window) {
            if visible.iter().all(|(known, ..)| *known != window) {
                let of_fixed = n_visible(&pass.fixed, window);
                visible.push((window, of_fixed, n_visible(candidates, window)));
            }
        }
        Self {
            pass,
            config,
            n_tokens: plan.n_tokens(),
            n_candidates: candidates.len(),
            visible,
        }
    }

    fn work(&self, step: &LayerStep) -> StepWork {
        let n_alive = step.n_kept.unwrap_or(step.n_candidates);
        let (rows_forwarded, pairs) = match step.forward {
            Forward::Alive => {
                let rows = self.pass.fixed.len() + n_alive;
                (rows, self.pairs(step.layer_idx, n_alive))
            }
            Forward::Last => {
                let window = self.config.layers[step.layer_idx].sliding_window;
                (1, n_visible(&[self.n_tokens - 1], window))
            }
            Forward::None => (0, 0.0),
        };
        StepWork {
            layer_idx: step.layer_idx,
            rows_placed: step.rows_placed,
            rows_projected: self.pass.fixed.len() + step.n_candidates,
            rows_forwarded,
            attention_pairs: pairs + self.pairs_read(step),
        }
    }

    /// Keys that the question's rows attend to when their attention is read.
    fn pairs_read(&self, step: &LayerStep) -> f64 {
        match self.pass.purpose {
            Purpose::Question { n_asking, .. } if step.reads => (n_asking * self.n_tokens) as f64,
            Purpose::Question { .. } | Purpose::Truth(_) | Purpose::Compute => 0.0,
        }
    }

    /// Keys seen by the fixed rows and `n_alive` candidates; the candidates count as their mean.
    fn pairs(&self, layer_idx: usize, n_alive: usize) -> f64 {
        let window = self.config.layers[layer_idx].sliding_window;
        let known = self.visible.iter().find(|(known, ..)| *known == window);
        let (of_fixed, of_candidates) = known.map_or((0.0, 0.0), |found| (found.1, found.2));
        let share = n_alive as f64 / self.n_candidates.max(1) as f64;
        let seen = match &self.pass.sees {
            Some(held) => held.len() as f64 / self.n_tokens as f64,
            None => 1.0,
        };
        (of_fixed + share * of_candidates) * seen
    }
}

/// Keys that all `rows` see together.
fn n_visible(rows: &[usize], window: Option<usize>) -> f64 {
    let of_row = |&row: &usize| (row + 1).min(window.unwrap_or(usize::MAX)) as f64;
    rows.iter().map(of_row).sum()
}
