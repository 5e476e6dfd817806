//! A plan in the terms of the cost model: amounts of work, and what has to be read when. Pure.

use ragweave_engine::{
    FusionPlan, Mode, ModelInfo, PlanWork, Policy, READ_AHEAD_LAYERS, StepWork, Tier,
};

use super::filter::{Prior, Volatility};

/// Kinds of computing, in the order of [`Amounts`].
pub(super) const COMPUTE: [Prior; 5] = [
    // Embedding, output projection and first token: once per request.
    latency("request_s", 1e-3),
    // Fixed cost of a layer for each batch of rows, however few: weights are read, kernels are started.
    latency("tile_s", 1e-4),
    throughput("matmul_flop_s", 50e9),
    throughput("attention_flop_s", 25e9),
    throughput("placed_byte_s", 2e9),
];
/// Kinds of reading: the fixed cost of a layer of a chunk, and bytes by tier.
pub(super) const READ: [Prior; 3] = [
    latency("read_s", 2e-5),
    throughput("memory_byte_s", 8e9),
    throughput("disk_byte_s", 2e9),
];

/// All computing slows down together, because of other processes or heat.
pub(super) const COMPUTING: Volatility = Volatility {
    shared_drift: 0.03,
    own_drift: 0.003,
    noise: 0.04,
};
/// The tiers change independently, and a block that is read may be in the page cache or not.
pub(super) const READING: Volatility = Volatility {
    shared_drift: 0.0,
    own_drift: 0.1,
    noise: 0.2,
};

const fn latency(name: &'static str, seconds: f64) -> Prior {
    Prior {
        name,
        seconds,
        sd: 1.5,
        shared: 0.2,
    }
}

const fn throughput(name: &'static str, per_second: f64) -> Prior {
    Prior {
        name,
        seconds: 1.0 / per_second,
        sd: 1.0,
        shared: 1.0,
    }
}

/// Plans share a correction if their size and their share of rows fall into the same step.
const SIZES_PER_DOUBLING: f64 = 2.0;
const SHARES: f64 = 12.0;

pub(super) type Amounts = [f64; 5];
pub(super) type Reads = [f64; 3];

/// A plan's work.
#[derive(Debug, Clone)]
pub(super) struct Job {
    steps: Vec<Step>,
    /// The key of all plans of its kind, and the key of those that also have its size.
    pub(super) keys: [String; 2],
}

/// A layer of a probe or of the prefill.
#[derive(Debug, Clone, Copy)]
struct Step {
    compute: Amounts,
    /// Reading that must be done before the step; zeros if nothing is placed.
    reads: Reads,
}

/// The properties of an engine that determine a plan's work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worker<'a> {
    pub(super) model: &'a ModelInfo,
    /// Rows computed at once.
    pub(super) max_prefill_tokens: usize,
}

impl Job {
    /// The job of a plan whose chunks are stored in `tiers`; `None` for a chunk that has no source.
    pub(super) fn new(
        plan: &FusionPlan,
        tiers: &[Option<Tier>],
        worker: Worker<'_>,
        prefix_cached: bool,
    ) -> Self {
        let work = plan.work(worker.model, prefix_cached);
        let mut steps: Vec<Step> = work
            .steps
            .iter()
            .map(|step| Step {
                compute: compute(step, worker),
                reads: reads(&work, step, tiers, worker.model),
            })
            .collect();
        if let Some(last) = steps.last_mut() {
            last.compute[0] = 1.0;
        }
        let keys = keys(plan, &work, worker.model);
        Self { steps, keys }
    }

    /// All its computing.
    pub(super) fn compute(&self) -> Amounts {
        sum(self.steps.iter().map(|step| step.compute))
    }

    /// All its reading.
    pub(super) fn reads(&self) -> Reads {
        sum(self.steps.iter().map(|step| step.reads))
    }

    /// How long the steps wait for reading, given the seconds of a unit of each kind and the correction of `compute`.
    /// Reading runs ahead by at most a few layers.
    pub(super) fn wait(&self, compute: &[f64], correction: f64, read: &[f64]) -> f64 {
        let (mut now, mut waited) = (0.0_f64, 0.0);
        let mut read_until = 0.0_f64;
        let mut taken: Vec<f64> = Vec::new();
        for step in &self.steps {
            let reading = cost(&step.reads, read);
            if reading > 0.0 {
                let freed = taken.len().checked_sub(READ_AHEAD_LAYERS);
                let room_at = freed.map_or(0.0, |layer| taken[layer]);
                read_until = read_until.max(room_at) + reading;
                waited += (read_until - now).max(0.0);
                now = now.max(read_until);
                taken.push(now);
            }
            now += cost(&step.compute, compute) * correction;
        }
        waited
    }
}

/// Seconds of these amounts.
fn cost(amounts: &[f64], seconds: &[f64]) -> f64 {
    amounts
        .iter()
        .zip(seconds)
        .map(|(amount, unit)| amount * unit)
        .sum()
}

fn sum<const N: usize>(parts: impl Iterator<Item = [f64; N]>) -> [f64; N] {
    let mut total = [0.0; N];
    for part in parts {
        total
            .iter_mut()
            .zip(part)
            .for_each(|(total, part)| *total += part);
    }
    total
}

fn compute(step: &StepWork, worker: Worker<'_>) -> Amounts {
    let config = &worker.model.config;
    let tiles = step
        .rows_projected
        .div_ceil(worker.max_prefill_tokens)
        .max(1);
    let kv_width = config.num_key_value_heads * config.head_dim;
    // KV is written in the compute type, whose size is part of the rate.
    let placed = (step.rows_placed * 2 * kv_width * size_of::<f32>()) as f64;
    [
        0.0,
        tiles as f64,
        step.matmul_flop(config),
        step.attention_flop(config),
        placed,
    ]
}

/// Reading this many bytes, in this many pieces, from one tier.
pub(super) fn reads_of(tier: Option<Tier>, n_reads: usize, bytes: f64) -> Reads {
    match tier {
        Some(Tier::Memory) => [n_reads as f64, bytes, 0.0],
        Some(Tier::Disk) | None => [n_reads as f64, 0.0, bytes],
    }
}

fn reads(work: &PlanWork, step: &StepWork, tiers: &[Option<Tier>], model: &ModelInfo) -> Reads {
    if step.rows_placed == 0 {
        return [0.0; 3];
    }
    let chunks = work.layer_bytes(step.layer_idx, model);
    sum(chunks.map(|(chunk, bytes)| reads_of(tiers.get(chunk).copied().flatten(), 1, bytes as f64)))
}

/// Plans of one policy share a correction, and those of one size and share of computed rows share another one.
fn keys(plan: &FusionPlan, work: &PlanWork, model: &ModelInfo) -> [String; 2] {
    let kind = kind(plan.mode());
    let size = ((plan.n_tokens() as f64).log2() * SIZES_PER_DOUBLING).round();
    let all_rows = plan.n_tokens() * model.config.num_hidden_layers;
    let share = (work.rows_forwarded() as f64 / all_rows as f64 * SHARES).round();
    let like = format!("{kind} size {size} share {share}");
    [kind, like]
}

/// The mode without its ratio and seed.
fn kind(mode: &Mode) -> String {
    match mode {
        Mode::Full => "full".to_owned(),
        Mode::Reuse => "reuse".to_owned(),
        Mode::Blend(blend) if matches!(blend.selection.policy, Policy::Random { .. }) => {
            "random".to_owned()
        }
        Mode::Blend(blend) => blend.selection.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(compute_s: f64, read_s: f64) -> Step {
        Step {
            compute: [compute_s, 0.0, 0.0, 0.0, 0.0],
            reads: [read_s, 0.0, 0.0],
        }
    }

    fn wait(steps: &[(f64, f64)]) -> f64 {
        let job = Job {
            steps: steps
                .iter()
                .map(|&(compute, read)| step(compute, read))
                .collect(),
            keys: Default::default(),
        };
        job.wait(&[1.0; 5], 1.0, &[1.0; 3])
    }

    #[test]
    fn reading_is_hidden_by_computing() {
        assert_eq!(
            wait(&[(2.0, 1.0); 8]),
            1.0,
            "the first layer alone is waited for"
        );
        assert_eq!(
            wait(&[(1.0, 2.0); 8]),
            2.0 + 7.0,
            "and else what reading is slower"
        );
        assert_eq!(wait(&[(1.0, 0.0); 8]), 0.0);
    }

    #[test]
    fn reading_runs_ahead_by_a_few_layers_only() {
        // One long layer, then short ones: those read ahead are there when it ends, the next one begins then.
        let short = [(0.0, 1.0); READ_AHEAD_LAYERS + 1];
        let steps = [&[(100.0, 1.0)], &short[..]].concat();
        assert_eq!(wait(&steps), 1.0 + 1.0);
        assert_eq!(wait(&steps[..=READ_AHEAD_LAYERS]), 1.0);
        // Layers at which nothing is placed are not read.
        assert_eq!(wait(&[(5.0, 0.0), (1.0, 3.0)]), 0.0);
    }
}
