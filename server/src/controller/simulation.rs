//! Tests the controller on simulated machines whose times do not follow its own model: matrix products whose time is
//! not proportional to their rows, policy costs that the model leaves out, noise, outliers, drift. Seeds are fixed.

use std::sync::Arc;
use std::time::Duration;

use ragweave_engine::{
    Blend, ChunkState, EngineOptions, FusionPlan, Mode, ModelInfo, Policy, PromptSegments, Ratio,
    Tier,
};
use tempfile::TempDir;

mod machine;

use super::choose::Forecaster;
use super::job::{Job, Worker};
use super::rates::Rates;
use super::sample::Sampled;
use crate::mode_choice::Auto;
use machine::{CPU, GPU, Machine, Random, slowed};

/// A model without weights, and the rates learned for one machine.
struct World {
    model: Arc<ModelInfo>,
    rates: Rates,
    random: Random,
    _dir: TempDir,
}

/// One request: its prompt in the widest mode, where its KV is stored, and what it allows.
struct Request {
    plan: FusionPlan,
    tiers: Vec<Option<Tier>>,
    auto: Auto,
}

impl World {
    fn new(config: &str, seed: u64) -> Self {
        let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../eval/configs/");
        let dir = tempfile::tempdir().unwrap();
        fs_err::copy(format!("{configs}{config}"), dir.path().join("config.json")).unwrap();
        let options = EngineOptions {
            random_weights: Some(1),
            ..EngineOptions::new(dir.path())
        };
        Self {
            model: Arc::new(ModelInfo::read(&options).unwrap()),
            rates: Rates::new(),
            random: Random(seed),
            _dir: dir,
        }
    }

    /// Like `calibrate`: a few sizes, the modes that may be chosen, KV in memory.
    fn calibrated(config: &str, machine: &Machine, seed: u64) -> Self {
        let mut world = Self::new(config, seed);
        for tokens in [24, 96, 256] {
            for mode in [
                Mode::Full,
                Mode::Reuse,
                Mode::blend(Policy::hkvd(1), Ratio::of_percent(15)),
            ] {
                let states = vec![ChunkState::Hit { exact: false }; 2];
                let plan =
                    FusionPlan::new(segments(2, tokens, 0), states, mode, &world.model).unwrap();
                world.learn(machine, &plan, &[Some(Tier::Memory); 2]);
            }
        }
        world
    }

    fn learn(&mut self, machine: &Machine, plan: &FusionPlan, tiers: &[Option<Tier>]) {
        let timings = machine.run(plan, tiers, &self.model, &mut self.random);
        self.rates
            .learn(&Job::new(plan, tiers, worker(&self.model), true), &timings);
    }

    /// Like the pipeline for a source that full prefill left unread.
    fn sample(&mut self, machine: &Machine, tiers: &[Option<Tier>]) {
        let Some(tier) = tiers.iter().copied().flatten().next() else {
            return;
        };
        let (n_reads, bytes) = (4, 4_000_000);
        let seconds = match tier {
            Tier::Memory => bytes as f64 / machine.memory_bytes_per_s,
            Tier::Disk => n_reads as f64 * 3e-5 + bytes as f64 / machine.disk_bytes_per_s,
        };
        let slowed = (machine.noise * self.random.normal()).exp();
        self.rates.learn_sample(&Sampled {
            tier,
            n_reads,
            bytes,
            time: Duration::from_secs_f64(seconds * slowed),
            opened: None,
        });
    }

    /// A prompt of any of these sizes and ratios; now and then a chunk is missed.
    fn request(&mut self, tiers: &[Tier], ratios: &[f64]) -> Request {
        let n_chunks = self.random.of(&[1, 2, 4, 6]);
        let tokens = self.random.of(&[128, 256, 512]);
        let states = (0..n_chunks).map(|chunk| match self.random.next() < 0.05 {
            true => ChunkState::Miss,
            false => ChunkState::Hit { exact: chunk == 0 },
        });
        let states: Vec<ChunkState> = states.collect();
        let tier = self.random.of(tiers);
        let tiers = states
            .iter()
            .map(|&state| (state != ChunkState::Miss).then_some(tier));
        let blend = Blend::new(Policy::hkvd(1), Ratio::new(self.random.of(ratios)).unwrap());
        let mode = Mode::Blend(blend.clone());
        Request {
            tiers: tiers.collect(),
            plan: FusionPlan::new(segments(n_chunks, tokens, 32), states, mode, &self.model)
                .unwrap(),
            auto: Auto { blend },
        }
    }

    /// Chooses, runs, learns; how much longer the choice takes than the best plan, as a share.
    fn regret(&mut self, machine: &Machine, request: &Request) -> f64 {
        let Request { plan, tiers, auto } = request;
        let forecaster = Forecaster {
            rates: &self.rates,
            worker: worker(&self.model),
            tiers,
        };
        let choice = forecaster.choose(plan, auto).unwrap();
        let full = plan.in_mode(Mode::Full, &self.model).unwrap();
        let plans = [full, plan.exact_only(), plan.clone()];
        let truth = |plan: &FusionPlan| machine.truth(plan, tiers, &self.model);
        let best = plans.iter().map(truth).fold(f64::INFINITY, f64::min);
        let regret = truth(&choice.plan) / best - 1.0;
        self.learn(machine, &choice.plan, tiers);
        if *choice.plan.mode() == Mode::Full {
            self.sample(machine, tiers);
        }
        regret
    }
}

fn worker(model: &ModelInfo) -> Worker<'_> {
    Worker {
        model,
        max_prefill_tokens: 512,
    }
}

fn segments(n_chunks: usize, tokens: usize, prefix: usize) -> PromptSegments {
    PromptSegments {
        prefix: vec![1; prefix],
        chunks: vec![vec![2; tokens]; n_chunks],
        question: vec![3; 64],
    }
}

const RATIOS: [f64; 4] = [0.05, 0.15, 0.5, 0.9];
const TIERS: [Tier; 2] = [Tier::Memory, Tier::Disk];

/// Mean and 95th percentile.
fn mean_and_p95(mut regrets: Vec<f64>) -> (f64, f64) {
    regrets.sort_by(f64::total_cmp);
    let mean = regrets.iter().sum::<f64>() / regrets.len() as f64;
    (mean, regrets[regrets.len() * 19 / 20])
}

#[test]
fn a_calibrated_controller_is_hardly_ever_wrong_by_much() {
    for (name, machine, config) in [
        ("cpu", CPU, "smollm2-135m.json"),
        ("gpu", GPU, "llama-3.2-1b.json"),
    ] {
        for seed in 1..=5 {
            let mut world = World::calibrated(config, &machine, seed);
            let regrets = (0..200).map(|_| {
                let request = world.request(&TIERS, &RATIOS);
                world.regret(&machine, &request)
            });
            let (mean, p95) = mean_and_p95(regrets.collect());
            assert!(
                mean < 0.01 && p95 < 0.03,
                "{name} {seed}: mean {mean} p95 {p95}"
            );
        }
    }
}

#[test]
fn without_calibration_a_few_requests_are_enough() {
    for (name, machine, config) in [
        ("cpu", CPU, "smollm2-135m.json"),
        ("gpu", GPU, "llama-3.2-1b.json"),
    ] {
        let mut world = World::new(config, 7);
        let mut regrets = (0..100).map(|_| {
            let request = world.request(&TIERS, &RATIOS);
            world.regret(&machine, &request)
        });
        regrets.by_ref().take(12).for_each(drop);
        let (mean, p95) = mean_and_p95(regrets.collect());
        assert!(mean < 0.015 && p95 < 0.05, "{name}: mean {mean} p95 {p95}");
    }
}

#[test]
fn noise_and_accidents_do_not_lead_it_astray() {
    let noisy = Machine { noise: 0.08, ..CPU };
    let mut world = World::calibrated("smollm2-135m.json", &noisy, 3);
    let mut regrets = Vec::new();
    for i in 0..300 {
        let request = world.request(&TIERS, &RATIOS);
        if i % 25 == 24 {
            // Something else ran for a while: eight times as long.
            let stalled = Machine {
                noise: 0.0,
                ..slowed(&CPU, 8.0)
            };
            world.learn(&stalled, &request.plan, &request.tiers);
        }
        regrets.push(world.regret(&noisy, &request));
    }
    let (mean, p95) = mean_and_p95(regrets);
    assert!(mean < 0.015 && p95 < 0.06, "mean {mean} p95 {p95}");
}

#[test]
fn a_machine_that_changes_is_followed() {
    let mut world = World::calibrated("llama-3.2-1b.json", &GPU, 5);
    let cold = Machine {
        disk_bytes_per_s: 0.6e9,
        ..GPU
    };
    let shared = slowed(&cold, 2.5);
    let back = GPU;
    for (name, machine) in [
        ("warm", GPU),
        ("cold", cold),
        ("shared", shared),
        ("back", back),
    ] {
        let regrets: Vec<f64> = (0..100)
            .map(|_| {
                let request = world.request(&TIERS, &RATIOS);
                world.regret(&machine, &request)
            })
            .collect();
        let (mean, p95) = mean_and_p95(regrets[20..].to_vec());
        assert!(mean < 0.015 && p95 < 0.05, "{name}: mean {mean} p95 {p95}");
    }
}

#[test]
fn it_prefills_where_reading_is_slow_and_blends_where_computing_is() {
    let slow_disk = Machine {
        disk_bytes_per_s: 0.3e9,
        ..GPU
    };
    for (machine, config, tier, blends) in [
        (slow_disk, "llama-3.2-1b.json", Tier::Disk, false),
        (CPU, "smollm2-135m.json", Tier::Disk, true),
    ] {
        let mut world = World::calibrated(config, &machine, 11);
        let mut chosen = Vec::new();
        for _ in 0..20 {
            let request = world.request(&[tier], &[0.15]);
            let n_chunks = request.tiers.len();
            let forecaster = Forecaster {
                rates: &world.rates,
                worker: worker(&world.model),
                tiers: &request.tiers,
            };
            let choice = forecaster.choose(&request.plan, &request.auto).unwrap();
            if n_chunks >= 4 {
                chosen.push(matches!(choice.plan.mode(), Mode::Blend(_)));
            }
            world.regret(&machine, &request);
        }
        let settled = &chosen[chosen.len() / 2..];
        assert!(
            settled.iter().all(|&is_blend| is_blend == blends),
            "{config}: {chosen:?}"
        );
    }
}

#[test]
fn a_store_that_is_slow_to_open_is_not_asked_until_it_is_fast() {
    let mut world = World::calibrated("smollm2-135m.json", &CPU, 3);
    let states = vec![ChunkState::Hit { exact: false }; 4];
    let auto = Auto {
        blend: Blend::new(Policy::hkvd(1), Ratio::of_percent(15)),
    };
    let mode = Mode::Blend(auto.blend.clone());
    let plan = FusionPlan::new(segments(4, 64, 32), states, mode, &world.model).unwrap();
    let tiers = [Some(Tier::Disk); 4];
    let is_left_alone = |world: &World| {
        let forecaster = Forecaster {
            rates: &world.rates,
            worker: worker(&world.model),
            tiers: &tiers,
        };
        let choice = forecaster.full_if_clear(&plan, &auto).unwrap();
        choice.inspect(|choice| assert_eq!(*choice.plan.mode(), Mode::Full))
    };
    assert!(is_left_alone(&world).is_none());
    world.rates.learn_open(20.0, 4);
    assert!(is_left_alone(&world).is_some());
    let saved = serde_json::to_string(&world.rates.save()).unwrap();
    world.rates = Rates::restore(&serde_json::from_str(&saved).unwrap()).unwrap();
    assert!(is_left_alone(&world).is_some(), "kept in the file");
    // Samples read after the answer show that it has become fast.
    for _ in 0..40 {
        world.rates.learn_sample(&Sampled {
            tier: Tier::Disk,
            n_reads: 4,
            bytes: 4_000_000,
            time: Duration::from_millis(2),
            opened: Some((1, Duration::from_micros(200))),
        });
    }
    assert!(is_left_alone(&world).is_none());
}

#[test]
fn where_reading_is_waited_for_more_is_recomputed_for_nothing() {
    // Reading takes several times as long as computing the rows asked for.
    let machine = Machine {
        disk_bytes_per_s: 0.05e9,
        noise: 0.0,
        ..CPU
    };
    let mut world = World::calibrated("smollm2-135m.json", &machine, 2);
    let auto = Auto {
        blend: Blend::new(Policy::FirstK, Ratio::of_percent(2)),
    };
    let states: Vec<ChunkState> = vec![ChunkState::Hit { exact: false }; 6];
    let tiers = [Some(Tier::Disk); 6];
    let mode = Mode::Blend(auto.blend.clone());
    let plan = FusionPlan::new(segments(6, 512, 32), states, mode, &world.model).unwrap();
    for _ in 0..10 {
        world.learn(&machine, &plan, &tiers);
    }
    let forecaster = Forecaster {
        rates: &world.rates,
        worker: worker(&world.model),
        tiers: &tiers,
    };
    let choice = forecaster.choose(&plan, &auto).unwrap();
    let Mode::Blend(blend) = choice.plan.mode() else {
        panic!("{}", choice.reason);
    };
    assert!(blend.ratio >= Ratio::of_percent(5), "{}", blend.ratio);
    let [asked, taken] =
        [&plan, &choice.plan].map(|plan| machine.truth(plan, &tiers, &world.model));
    assert!(taken < asked * 1.02, "{taken} {asked}");
}

#[test]
fn with_nothing_stored_or_a_floor_of_one_it_prefills() {
    let mut world = World::calibrated("smollm2-135m.json", &CPU, 1);
    let mut request = world.request(&[Tier::Memory], &[0.15]);
    let missed = vec![ChunkState::Miss; request.tiers.len()];
    let mode = request.plan.mode().clone();
    request.plan =
        FusionPlan::new(segments(missed.len(), 128, 0), missed, mode, &world.model).unwrap();
    let tiers = vec![None; request.tiers.len()];
    let forecaster = Forecaster {
        rates: &world.rates,
        worker: worker(&world.model),
        tiers: &tiers,
    };
    let choice = forecaster.choose(&request.plan, &request.auto).unwrap();
    assert_eq!(*choice.plan.mode(), Mode::Full);
    assert_eq!(choice.candidates.len(), 1);

    let loose = vec![ChunkState::Hit { exact: false }; 6];
    let auto = Auto {
        blend: Blend::new(Policy::hkvd(1), Ratio::ONE),
    };
    let mode = Mode::Blend(auto.blend.clone());
    let plan = FusionPlan::new(segments(6, 512, 0), loose, mode, &world.model).unwrap();
    let tiers = [Some(Tier::Memory); 6];
    let forecaster = Forecaster {
        tiers: &tiers,
        ..forecaster
    };
    assert_eq!(
        *forecaster.choose(&plan, &auto).unwrap().plan.mode(),
        Mode::Full
    );
}
