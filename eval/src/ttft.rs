//! `ragweave-eval ttft`: time to first token of modes at several context lengths, stage by stage,
//! with the engine and the store that serve requests. Chunks hold random ids: time depends on
//! lengths, not on words. The modes take turns, and each is compared with the full prefill of the
//! same rounds.

use std::path::PathBuf;
use std::thread::available_parallelism;

use anyhow::bail;
use ragweave_engine::{EngineHandle, EngineOptions, Mode, PromptSegments};
use serde::Serialize;
use serde_json::Value;

use crate::bench::WEIGHTS_SEED;
use crate::bench::measure::{self, Workload};
use crate::bench::prompt::PromptShape;
use crate::bench::shape::ModelDir;
use crate::bench::stock::{KvPlace, Stock};
use crate::cli::{parse_count, print_json, print_text, runtime};
use crate::engine_args::EngineArgs;
use crate::mode_spec::ModeSpec;
use crate::progress;
use crate::run_dir::{RunDir, RunHeader, RunKind, RunModel};

pub(crate) mod report;
mod round;
mod stages;

use report::Report;
use round::Round;

/// Arguments of `ragweave-eval ttft`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Context lengths, in chunks
    #[arg(long, value_name = "N,..", default_value = "1,2,4,6", value_delimiter = ',', value_parser = parse_count)]
    chunks: Vec<usize>,
    /// Tokens of each chunk
    #[arg(long, value_name = "N", default_value = "512", value_parser = parse_count)]
    chunk_tokens: usize,
    /// Tokens of the question
    #[arg(long, value_name = "N", default_value = "64", value_parser = parse_count)]
    question_tokens: usize,
    /// Tokens before the first chunk: system text, whose KV every mode takes from the device's cache, full prefill too;
    /// without any, full prefill computes the whole prompt
    #[arg(long, value_name = "N", default_value = "0")]
    prefix_tokens: usize,
    /// Modes to time; full prefill is always among them
    #[arg(
        long,
        value_name = "SPEC,..",
        default_value = "full,reuse,hkvd@1:0.05,hkvd@1:0.15,first-k:0.05",
        value_delimiter = ','
    )]
    modes: Vec<ModeSpec>,
    /// Measured rounds of each length, after one to warm up
    #[arg(long, value_name = "N", default_value = "5", value_parser = parse_count)]
    repeats: usize,
    /// Seed of the token ids
    #[arg(long, value_name = "SEED", default_value = "0")]
    seed: u64,
    /// Where chunk KV is read from
    #[arg(long, value_enum, default_value_t, value_name = "PLACE")]
    kv: KvPlace,
    /// Directory for the store's files, on the disk to measure [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Directory to write to; one that holds a part of the same run is completed
    /// [default: runs/ttft-<unix seconds>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The summary as one JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// The model to time.
#[derive(Debug, clap::Args, Serialize)]
#[group(required = true, multiple = false)]
struct ModelArgs {
    /// A config.json, or a directory that holds one; weights are random
    #[arg(long, value_name = "CONFIG.json|DIR")]
    random_weights: Option<PathBuf>,
    /// Model directory in Hugging Face layout
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// What decides the times, as the run directory tells it.
#[derive(Serialize)]
struct Config<'a> {
    #[serde(flatten)]
    model: &'a ModelArgs,
    dtype: String,
    kv_dtype: String,
    max_prefill_tokens: usize,
    threads: usize,
    chunks: &'a [usize],
    chunk_tokens: usize,
    question_tokens: usize,
    prefix_tokens: usize,
    modes: Vec<String>,
    repeats: usize,
    kv: KvPlace,
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file, flag or field at fault; KV that the engine had to compute again is an error,
/// because its times would not be those of the mode.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let model_dir = args.model.open()?;
    let options = EngineOptions {
        random_weights: args.model.random_weights.as_ref().map(|_| WEIGHTS_SEED),
        ..args.engine.options(model_dir.path())
    };
    let engine = args.engine.device.spawn_engine(options.clone())?;
    let specs = with_full(&args.modes);
    let segments = segments(args, &engine);
    expect_plans(&segments, &specs, &engine)?;
    let header = RunHeader::new(
        RunKind::Ttft,
        &Config::new(args, &options, &specs),
        args.engine.device,
        RunModel {
            name: model_dir.model_name(&engine.model().name).to_owned(),
            ..RunModel::of(engine.model())
        },
        args.seed,
    )?;
    let (mut run_dir, done) = RunDir::open_or_resume(args.out.as_deref(), header.clone())?;
    let timer = Timer {
        args,
        engine: &engine,
        segments,
        specs: &specs,
    };
    let rounds = runtime()?.block_on(timer.measure(&mut run_dir, done))?;
    let report = Report::new(&specs, &rounds);
    let summary = header.summary(&report);
    run_dir.finish("summary.json", &summary)?;
    match args.json {
        true => print_json(&summary, false),
        false => print_text(&format!("{report}\n\n{}", run_dir.path().display())),
    }
}

/// Measures what a run directory does not hold yet.
struct Timer<'a> {
    args: &'a Args,
    engine: &'a EngineHandle,
    /// The longest prompt; shorter ones leave out its last chunks.
    segments: PromptSegments,
    specs: &'a [ModeSpec],
}

/// A context length with rounds to run.
struct OpenLength {
    n_chunks: usize,
    rounds_done: usize,
}

impl Timer<'_> {
    /// All rounds of all lengths: those done before and those run now.
    async fn measure(&self, run_dir: &mut RunDir, done: Vec<Value>) -> anyhow::Result<Vec<Round>> {
        let mut rounds = round::read(run_dir.path(), done)?;
        let open = self.open_lengths(&rounds);
        if open.is_empty() {
            return Ok(rounds);
        }
        let scratch = self.args.scratch.as_deref();
        let stock = Stock::fill(self.args.kv, scratch, self.engine, &self.segments).await?;
        let to_run = |length: &OpenLength| 1 + self.args.repeats - length.rounds_done;
        let n_rounds: usize = open.iter().map(to_run).sum();
        let bar = progress::bar(n_rounds * self.specs.len(), "runs");
        let modes: Vec<Mode> = self.specs.iter().map(|spec| spec.mode_for(0)).collect();
        for length in open {
            let workload = self.workload(&stock, length.n_chunks);
            workload.round(&modes, 0, || bar.inc(1)).await?; // warms up
            for number in length.rounds_done + 1..=self.args.repeats {
                let samples = workload.round(&modes, number, || bar.inc(1)).await?;
                let context_tokens = length.n_chunks * self.args.chunk_tokens;
                let round = Round::new(context_tokens, number, self.specs, &samples);
                run_dir.append(&round)?;
                rounds.push(round);
            }
        }
        bar.finish_and_clear();
        Ok(rounds)
    }

    fn open_lengths(&self, rounds: &[Round]) -> Vec<OpenLength> {
        let of_length = |n_chunks| {
            let context_tokens = n_chunks * self.args.chunk_tokens;
            let rounds = rounds
                .iter()
                .filter(|round| round.context_tokens == context_tokens);
            OpenLength {
                n_chunks,
                rounds_done: rounds.count(),
            }
        };
        let lengths = self.args.lengths().into_iter().map(of_length);
        lengths
            .filter(|length| length.rounds_done < self.args.repeats)
            .collect()
    }

    fn workload(&self, stock: &Stock, n_chunks: usize) -> Workload<'_> {
        let mut segments = self.segments.clone();
        segments.chunks.truncate(n_chunks);
        Workload {
            engine: self.engine,
            segments,
            stock: stock.first(n_chunks),
            decode_tokens: 1,
        }
    }
}

impl Args {
    /// Context lengths in chunks, ascending, each once.
    fn lengths(&self) -> Vec<usize> {
        let mut lengths = self.chunks.clone();
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    }
}

impl ModelArgs {
    fn open(&self) -> anyhow::Result<ModelDir> {
        match (&self.random_weights, &self.model) {
            (Some(config), _) => ModelDir::open(config),
            (None, Some(dir)) if dir.is_dir() => Ok(ModelDir::Given(dir.clone())),
            (None, Some(dir)) => bail!("--model: {} is not a directory", dir.display()),
            (None, None) => bail!("give --model or --random-weights"),
        }
    }
}

impl<'a> Config<'a> {
    fn new(args: &'a Args, options: &EngineOptions, specs: &[ModeSpec]) -> Self {
        Self {
            model: &args.model,
            dtype: options.dtype.to_string(),
            kv_dtype: options.kv_dtype.to_string(),
            max_prefill_tokens: options.max_prefill_tokens,
            threads: available_parallelism().map_or(1, usize::from),
            chunks: &args.chunks,
            chunk_tokens: args.chunk_tokens,
            question_tokens: args.question_tokens,
            prefix_tokens: args.prefix_tokens,
            modes: specs.iter().map(ToString::to_string).collect(),
            repeats: args.repeats,
            kv: args.kv,
        }
    }
}

/// The modes to time, full prefill among them.
fn with_full(modes: &[ModeSpec]) -> Vec<ModeSpec> {
    let full = ModeSpec::new(Mode::Full);
    let added = (!modes.contains(&full)).then_some(full);
    added.into_iter().chain(modes.iter().cloned()).collect()
}

fn segments(args: &Args, engine: &EngineHandle) -> PromptSegments {
    let shape = PromptShape {
        chunks: args.lengths().last().copied().unwrap_or(1),
        chunk_tokens: args.chunk_tokens,
        question_tokens: args.question_tokens,
        prefix_tokens: args.prefix_tokens,
        seed: args.seed,
    };
    shape.segments(engine.model().config.vocab_size)
}

/// Plans the longest prompt once before any KV is computed, so that bad input is told at once.
fn expect_plans(
    segments: &PromptSegments,
    specs: &[ModeSpec],
    engine: &EngineHandle,
) -> anyhow::Result<()> {
    for spec in specs {
        measure::plan(segments, &spec.mode_for(0), engine.model())
            .map_err(|error| error.context(format!("plan {spec}")))?;
    }
    Ok(())
}
