//! `ragweave-eval bench`: where the time to first token goes, on a model of random weights in the
//! shape of a real one. Time depends on shapes, not on weights, so no download is needed; quality
//! is not measured here. KV is read from a real store or from memory, and the modes take turns.

use std::path::PathBuf;

use ragweave_engine::{EngineHandle, EngineOptions, Mode, Policy, Ratio};

use crate::cli::{parse_count, print_json, print_text, runtime};
use crate::engine_args::EngineArgs;
use crate::mode_spec::ModeSpec;
use crate::progress;

pub(crate) mod measure;
mod memory;
mod modes;
pub(crate) mod prompt;
mod report;
pub(crate) mod shape;
pub(crate) mod stock;

use measure::Workload;
use prompt::PromptShape;
use report::Report;
use shape::ModelDir;
use stock::{KvPlace, Stock};

/// Seed of the weights: they decide nothing that is measured.
pub(crate) const WEIGHTS_SEED: u64 = 1;

/// Arguments of `ragweave-eval bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A config.json, or a directory that holds one; weights are random
    #[arg(long, value_name = "CONFIG.json|DIR")]
    random_weights: PathBuf,
    #[command(flatten)]
    prompt: PromptShape,
    /// Shares of the context tokens that are not exact that blend recomputes
    #[arg(
        long,
        value_name = "R,..",
        default_value = "0.05,0.15",
        value_delimiter = ','
    )]
    ratios: Vec<Ratio>,
    /// Policies of blend, such as hkvd@1, first-k, query/all, anchors or all
    #[arg(
        long,
        value_name = "P,..",
        default_value = "hkvd,first-k",
        value_delimiter = ','
    )]
    policies: Vec<Policy>,
    /// Measured runs of each mode, after one run to warm up
    #[arg(long, value_name = "N", default_value = "5", value_parser = parse_count)]
    repeats: usize,
    /// Tokens generated in each run, for the decode rate
    #[arg(long, value_name = "N", default_value = "16", value_parser = parse_count)]
    decode_tokens: usize,
    /// Where chunk KV is read from
    #[arg(long, value_enum, default_value_t, value_name = "PLACE")]
    kv: KvPlace,
    /// Directory for the store's files, on the disk to measure [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file, flag or field at fault; KV that the engine had to compute again is an error,
/// because its times would not be those of the mode.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let model_dir = ModelDir::open(&args.random_weights)?;
    let specs = modes::specs(&args.policies, &args.ratios);
    let options = EngineOptions {
        random_weights: Some(WEIGHTS_SEED),
        ..args.engine.options(model_dir.path())
    };
    let engine = args.engine.device.spawn_engine(options.clone())?;
    let samples = runtime()?.block_on(measure(args, &engine, &specs))?;
    let name = model_dir.model_name(&engine.model().name);
    let report = Report::new(args, &engine, &options, name, &specs, &samples);
    match args.json {
        true => print_json(&report, false),
        false => print_text(&report.to_string()),
    }
}

async fn measure(
    args: &Args,
    engine: &EngineHandle,
    specs: &[ModeSpec],
) -> anyhow::Result<Vec<Vec<measure::Sample>>> {
    let segments = args.prompt.segments(engine.model().config.vocab_size);
    let modes: Vec<Mode> = specs.iter().map(|spec| spec.mode_for(0)).collect();
    // Planned once before any KV is computed, so that bad input is told at once.
    for mode in &modes {
        measure::plan(&segments, mode, engine.model())?;
    }
    let stock = Stock::fill(args.kv, args.scratch.as_deref(), engine, &segments).await?;
    let workload = Workload {
        engine,
        segments,
        stock,
        decode_tokens: args.decode_tokens,
    };
    let rounds = args.repeats + 1;
    let bar = progress::bar(rounds * modes.len(), "runs");
    let samples = workload.run(&modes, rounds, || bar.inc(1)).await?;
    bar.finish_and_clear();
    Ok(samples)
}
