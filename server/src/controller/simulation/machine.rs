//! A machine whose times are known, and seeded random numbers.

use std::time::Duration;

use ragweave_engine::{
    FuseTimings, FusionPlan, Mode, ModelInfo, PlanWork, READ_AHEAD_LAYERS, StepWork, Tier,
};

/// A machine's true rates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    pub(super) matmul_flops: f64,
    pub(super) attention_flops: f64,
    pub(super) placed_bytes_per_s: f64,
    pub(super) tile_s: f64,
    pub(super) request_s: f64,
    /// Comparing a candidate with its stored KV: unknown to the model.
    pub(super) compare_s: f64,
    /// Rows at which a product reaches 70 % of its rate.
    pub(super) half_rows: f64,
    pub(super) memory_bytes_per_s: f64,
    pub(super) disk_bytes_per_s: f64,
    /// Spread of the logarithm of a time.
    pub(super) noise: f64,
}

pub(super) const CPU: Machine = Machine {
    matmul_flops: 150e9,
    attention_flops: 30e9,
    placed_bytes_per_s: 3e9,
    tile_s: 1e-4,
    request_s: 15e-3,
    compare_s: 2e-6,
    half_rows: 24.0,
    memory_bytes_per_s: 8e9,
    disk_bytes_per_s: 1.5e9,
    noise: 0.02,
};

pub(super) const GPU: Machine = Machine {
    matmul_flops: 300e12,
    attention_flops: 80e12,
    placed_bytes_per_s: 800e9,
    tile_s: 60e-6,
    request_s: 1e-3,
    compare_s: 20e-9,
    half_rows: 200.0,
    memory_bytes_per_s: 20e9,
    disk_bytes_per_s: 4e9,
    noise: 0.02,
};

/// Seeded numbers between 0 and 1.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> f64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[(self.next() * choices.len() as f64) as usize]
    }

    /// Of mean 0 and variance 1: near enough to normal.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

impl Machine {
    /// The times of a plan here without noise: computing, waiting, reading.
    fn times(&self, plan: &FusionPlan, tiers: &[Option<Tier>], model: &ModelInfo) -> [f64; 3] {
        let work = plan.work(model, true);
        let compares = matches!(plan.mode(), Mode::Blend(blend) if blend.selection.policy.check_layer().is_some());
        let (mut now, mut waited, mut read, mut read_until) = (0.0_f64, 0.0, 0.0, 0.0_f64);
        let mut taken = vec![0.0; READ_AHEAD_LAYERS];
        let mut narrowed = false;
        for step in &work.steps {
            if step.rows_placed > 0 {
                let reading = self.reading(&work, step.layer_idx, tiers, model);
                read += reading;
                read_until = read_until.max(taken[taken.len() - READ_AHEAD_LAYERS]) + reading;
                waited += (read_until - now).max(0.0);
                now = now.max(read_until);
                taken.push(now);
            }
            now += self.computing(step, model);
            // Only once, at the layer where the rows become fewer.
            if compares && !narrowed && step.rows_forwarded < step.rows_projected {
                narrowed = true;
                now += self.compare_s * step.rows_projected as f64;
            }
        }
        [now - waited + self.request_s, waited, read]
    }

    fn computing(&self, step: &StepWork, model: &ModelInfo) -> f64 {
        let config = &model.config;
        let heads = (config.num_attention_heads * config.head_dim) as f64;
        let kv = (config.num_key_value_heads * config.head_dim) as f64;
        let (hidden, mlp) = (config.hidden_size as f64, config.intermediate_size as f64);
        let product = |rows: usize, flop: f64| {
            let rows = rows as f64;
            let efficiency = (rows / (rows + self.half_rows)).sqrt();
            rows * flop / (self.matmul_flops * efficiency.max(1e-3))
        };
        let tiles = step.rows_projected.div_ceil(512) as f64;
        product(
            step.rows_forwarded,
            2.0 * hidden * (2.0 * heads + 3.0 * mlp),
        ) + product(step.rows_projected, 4.0 * hidden * kv)
            + step.attention_pairs * 4.0 * heads / self.attention_flops
            + step.rows_placed as f64 * 8.0 * kv / self.placed_bytes_per_s
            + tiles * self.tile_s
    }

    fn reading(
        &self,
        work: &PlanWork,
        layer: usize,
        tiers: &[Option<Tier>],
        model: &ModelInfo,
    ) -> f64 {
        let chunks = work.layer_bytes(layer, model);
        let seconds = chunks.map(|(chunk, bytes)| match tiers[chunk] {
            Some(Tier::Memory) => bytes as f64 / self.memory_bytes_per_s,
            Some(Tier::Disk) | None => 3e-5 + bytes as f64 / self.disk_bytes_per_s,
        });
        seconds.sum()
    }

    /// Without noise, from when the engine takes the request to its first token.
    pub(super) fn truth(
        &self,
        plan: &FusionPlan,
        tiers: &[Option<Tier>],
        model: &ModelInfo,
    ) -> f64 {
        let [compute, wait, _] = self.times(plan, tiers, model);
        compute + wait
    }

    /// As an engine would report it.
    pub(super) fn run(
        &self,
        plan: &FusionPlan,
        tiers: &[Option<Tier>],
        model: &ModelInfo,
        random: &mut Random,
    ) -> FuseTimings {
        let slowed = (self.noise * random.normal()).exp();
        let [compute, wait, read] = self
            .times(plan, tiers, model)
            .map(|seconds| seconds * slowed);
        FuseTimings {
            load: Duration::from_secs_f64(read),
            load_wait: Duration::from_secs_f64(wait),
            recompute: Duration::from_secs_f64(compute),
            ..FuseTimings::default()
        }
    }
}

/// The same machine with computing this many times slower.
pub(super) fn slowed(machine: &Machine, times: f64) -> Machine {
    Machine {
        matmul_flops: machine.matmul_flops / times,
        attention_flops: machine.attention_flops / times,
        placed_bytes_per_s: machine.placed_bytes_per_s / times,
        tile_s: machine.tile_s * times,
        request_s: machine.request_s * times,
        compare_s: machine.compare_s * times,
        ..*machine
    }
}
