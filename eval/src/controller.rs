//! `ragweave-eval controller`: is `--mode auto` ever slower than the better of full prefill and blend? Over a grid of
//! lengths, ratios and tiers, the three take turns on the same prompt. The controller is measured in first, as a server
//! does at its start, and then learns from its own choices alone: the other runs tell it nothing.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use ragweave_engine::{Blend, EngineHandle, EngineOptions, Mode, Ratio, Selection};
use ragweave_server::controller::{Auto, Controller};

use crate::bench::WEIGHTS_SEED;
use crate::bench::measure::Workload;
use crate::bench::prompt::PromptShape;
use crate::bench::shape::ModelDir;
use crate::bench::stock::{KvPlace, Stock, expect_disk};
use crate::cli::{parse_count, print_json, print_text, runtime};
use crate::engine_args::EngineArgs;
use crate::progress;

mod cell;
mod regret;
mod report;
mod round;

use cell::{Cell, Tier};
use regret::Outcome;
use report::Report;
use round::Rounds;

/// Arguments of `ragweave-eval controller`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A config.json, or a directory that holds one; weights are random
    #[arg(long, value_name = "CONFIG.json|DIR")]
    random_weights: PathBuf,
    /// Context lengths, in chunks
    #[arg(long, value_name = "N,..", default_value = "1,2,4,6", value_delimiter = ',', value_parser = parse_count)]
    chunks: Vec<usize>,
    /// Tokens of each chunk
    #[arg(long, value_name = "N,..", default_value = "128,512", value_delimiter = ',', value_parser = parse_count)]
    chunk_tokens: Vec<usize>,
    /// Tokens of the question
    #[arg(long, value_name = "N", default_value = "64", value_parser = parse_count)]
    question_tokens: usize,
    /// Tokens before the first chunk: system text, whose KV is kept on the device for full, blend and auto alike
    #[arg(long, value_name = "N", default_value = "32")]
    prefix_tokens: usize,
    /// Ratios of the blend; each is the floor of auto too
    #[arg(
        long,
        value_name = "R,..",
        default_value = "0.05,0.15,0.9",
        value_delimiter = ','
    )]
    ratios: Vec<Ratio>,
    /// Which tokens the blend recomputes
    #[arg(long, value_name = "NOTATION", default_value = "hkvd@1")]
    selection: Selection,
    /// Where chunk KV is read from
    #[arg(
        long,
        value_enum,
        value_name = "TIER,..",
        default_value = "memory,disk-warm,disk-cold",
        value_delimiter = ','
    )]
    tiers: Vec<Tier>,
    /// Measured rounds of each cell
    #[arg(long, value_name = "N", default_value = "7", value_parser = parse_count)]
    rounds: usize,
    /// Rounds of each cell before those
    #[arg(long, value_name = "N", default_value = "2", value_parser = parse_count)]
    warm_up: usize,
    /// Seed of the token ids and of the intervals
    #[arg(long, value_name = "SEED", default_value = "0")]
    seed: u64,
    /// Directory for the store's files, on the disk to measure [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Directory to write controller.md and controller.json to
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file, flag or field at fault; and the cells in which auto is not shown to be as fast as it should be.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.tiers.contains(&Tier::DiskCold) {
        expect_disk(args.scratch.as_deref()).context("--tiers disk-cold")?;
    }
    let model_dir = ModelDir::open(&args.random_weights)?;
    let options = EngineOptions {
        random_weights: Some(WEIGHTS_SEED),
        ..args.engine.options(model_dir.path())
    };
    let engine = args.engine.device.spawn_engine(options.clone())?;
    let outcomes = runtime()?.block_on(measure(args, &engine, &options))?;
    let name = model_dir.model_name(&engine.model().name);
    let report = Report::new(args, name, &options, outcomes);
    if let Some(out) = &args.out {
        fs_err::create_dir_all(out)?;
        fs_err::write(out.join("controller.md"), format!("{report}\n"))?;
        let json = serde_json::to_string_pretty(&report)? + "\n";
        fs_err::write(out.join("controller.json"), json)?;
    }
    match args.json {
        true => print_json(&report, false)?,
        false => print_text(&report.to_string())?,
    }
    let failed = report.failed();
    if !failed.is_empty() {
        bail!("{} cells do not pass: {}", failed.len(), failed.join("; "));
    }
    Ok(())
}

async fn measure(
    args: &Args,
    engine: &EngineHandle,
    options: &EngineOptions,
) -> anyhow::Result<Vec<Outcome>> {
    let controller = Controller::new(engine.model().clone(), options.max_prefill_tokens);
    let usual = Blend::new(
        args.selection.clone(),
        args.ratios
            .first()
            .copied()
            .unwrap_or(Ratio::of_percent(15)),
    );
    controller.calibrate(engine, &usual).await;
    let cells = args.cells();
    let bar = progress::bar(cells.len() * 3 * (args.warm_up + args.rounds), "runs");
    let mut outcomes = Vec::new();
    let mut stock: Option<(usize, KvPlace, Stock)> = None;
    for cell in cells {
        let shape = args.shape(&cell);
        let vocab_size = engine.model().config.vocab_size;
        // Cells of one chunk length and place share the chunks: the longest prompt's.
        let (tokens, place) = (cell.chunk_tokens, cell.tier.place());
        if stock
            .as_ref()
            .is_none_or(|known| (known.0, known.1) != (tokens, place))
        {
            let longest = args.longest(tokens).segments(vocab_size);
            let filled = Stock::fill(place, args.scratch.as_deref(), engine, &longest).await?;
            stock = Some((tokens, place, filled));
        }
        let (.., chunks) = stock.as_ref().context("the chunks have been made")?;
        let mut segments = args.longest(tokens).segments(vocab_size);
        segments.chunks.truncate(shape.chunks);
        let workload = Workload {
            engine,
            segments,
            stock: match cell.tier {
                Tier::DiskCold => chunks.first(shape.chunks).read_cold(),
                Tier::DiskWarm | Tier::Memory => chunks.first(shape.chunks),
            },
            decode_tokens: 1,
        };
        let blend = Blend::new(args.selection.clone(), cell.ratio);
        let rounds = Rounds {
            workload: &workload,
            controller: &controller,
            blend: Mode::Blend(blend.clone()),
            auto: Auto { blend },
        };
        let measured = rounds.run(args.warm_up, args.rounds, || bar.inc(1)).await?;
        outcomes.push(Outcome::new(cell, &measured, args.seed)?);
    }
    bar.finish_and_clear();
    Ok(outcomes)
}

impl Args {
    /// Every combination; those that share stored chunks one after the other.
    fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &chunk_tokens in &self.chunk_tokens {
            for &tier in &self.tiers {
                for &chunks in &self.chunks {
                    cells.extend(self.ratios.iter().map(|&ratio| Cell {
                        chunks,
                        chunk_tokens,
                        ratio,
                        tier,
                    }));
                }
            }
        }
        cells
    }

    fn shape(&self, cell: &Cell) -> PromptShape {
        PromptShape {
            chunks: cell.chunks,
            ..self.longest(cell.chunk_tokens)
        }
    }

    fn longest(&self, chunk_tokens: usize) -> PromptShape {
        PromptShape {
            chunks: self.chunks.iter().copied().max().unwrap_or(1),
            chunk_tokens,
            question_tokens: self.question_tokens,
            prefix_tokens: self.prefix_tokens,
            seed: self.seed,
        }
    }
}
