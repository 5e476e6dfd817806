//! `ragweave-eval ttft`: time to first token of modes at several context lengths, stage by stage,
//! with the engine and the store that serve requests. Chunks hold random ids: time depends on
//! lengths, not on words. The modes take turns, and each is compared with the full prefill of the
//! same rounds.

use ragweave_engine::Mode;
use serde::Serialize;
use serde_json::json;

use crate::experiment::{block_on, threads};
use crate::flags::parse_count;
use crate::mode_spec::ModeSpec;
use crate::run_dir::{RunArgs, RunHeader, RunKind, RunModel, merged};

pub(crate) mod bench;
mod memory;
pub(crate) mod model_dir;
pub(crate) mod prompt;
pub(crate) mod report;
mod round;
pub(crate) mod stock;
mod timer;
pub(crate) mod workload;

use model_dir::{ModelArgs, TimedModel};
use report::Report;
use round::Round;
use timer::{Timer, TimerArgs};

/// Arguments of `ragweave-eval ttft`. What is serialised decides the times.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Args {
    #[command(flatten)]
    #[serde(flatten)]
    model: ModelArgs,
    /// Context lengths, in chunks
    #[arg(long, value_name = "N,..", default_value = "1,2,4,6", value_delimiter = ',', value_parser = parse_count)]
    chunks: Vec<usize>,
    /// Modes to time; full prefill is always among them
    #[arg(
        long,
        value_name = "SPEC,..",
        default_value = "full,reuse,hkvd@1:0.05,hkvd@1:0.15,first-k:0.05",
        value_delimiter = ','
    )]
    modes: Vec<ModeSpec>,
    #[command(flatten)]
    #[serde(flatten)]
    timer: TimerArgs,
    #[command(flatten)]
    #[serde(skip)]
    run: RunArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let args = &Args {
        modes: with_full(&args.modes),
        ..args.clone()
    };
    let model = args.model.open(&args.timer.engine)?;
    let timer = Timer::new(&args.timer, &model.engine, &args.modes, &args.chunks, 1)?;
    let (mut run_dir, done) = args.run.open::<Round>(args.header(&model)?)?;
    let rounds = block_on(timer.measure(done, |round| run_dir.append(round)))?;
    let report = Report::new(&args.modes, &rounds);
    run_dir.finish(&args.run, &report, &report)
}

/// The modes to time, full prefill among them.
fn with_full(modes: &[ModeSpec]) -> Vec<ModeSpec> {
    let full = ModeSpec::new(Mode::Full);
    let added = (!modes.contains(&full)).then_some(full);
    added.into_iter().chain(modes.iter().cloned()).collect()
}

impl Args {
    fn header(&self, model: &TimedModel) -> anyhow::Result<RunHeader> {
        let setting = json!({
            "dtype": model.options.dtype.to_string(),
            "kv_dtype": model.options.kv_dtype.to_string(),
            "max_prefill_tokens": model.options.max_prefill_tokens,
            "threads": threads(),
        });
        let config = merged([serde_json::to_value(self)?, setting]);
        let of_engine = RunModel::of(model.engine.model());
        let name = model.name.clone();
        RunHeader::new(
            RunKind::Ttft,
            &config,
            self.timer.engine.device,
            RunModel { name, ..of_engine },
            self.timer.prompt.seed,
        )
    }
}
