//! `ragweave-eval controller`: is `--mode auto` ever slower than the better of full prefill and blend? Over a grid of
//! lengths, ratios and tiers, the three take turns on the same prompt. The controller is calibrated first, as a server
//! does at its start, and then learns from its own choices alone, never from the other runs.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use ragweave_engine::{Blend, Mode, PromptSegments, Ratio, Selection};
use ragweave_server::controller::{Auto, Controller};

use crate::experiment::{self, block_on, threads};
use crate::flags::{EngineArgs, parse_count};
use crate::ttft::model_dir::TimedModel;
use crate::ttft::prompt::PromptShape;
use crate::ttft::stock::{KvPlace, Stock, expect_disk};
use crate::ttft::workload::Workload;

mod cell;
mod regret;
mod report;
mod round;

use cell::{Cell, Tier};
use regret::Outcome;
use report::{Report, Setting};
use round::Rounds;

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

/// Runs the subcommand. Cells in which auto is not shown to be as fast as it should be are an error that names them.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.tiers.contains(&Tier::DiskCold) {
        expect_disk(args.scratch.as_deref()).context("--tiers disk-cold")?;
    }
    let model = TimedModel::random(&args.random_weights, &args.engine)?;
    let outcomes = block_on(measure(args, &model))?;
    let report = Report::new(args.setting(&model), outcomes);
    if let Some(out) = &args.out {
        fs_err::create_dir_all(out)?;
        fs_err::write(out.join("controller.md"), format!("{report}\n"))?;
        let json = serde_json::to_string_pretty(&report)? + "\n";
        fs_err::write(out.join("controller.json"), json)?;
    }
    experiment::print(&report, &report, args.json)?;
    let failed = report.failed();
    if !failed.is_empty() {
        bail!("{} cells do not pass: {}", failed.len(), failed.join("; "));
    }
    Ok(())
}

async fn measure(args: &Args, model: &TimedModel) -> anyhow::Result<Vec<Outcome>> {
    let engine = &model.engine;
    let controller = Controller::new(engine.model().clone(), model.options.max_prefill_tokens);
    let ratio = args
        .ratios
        .first()
        .copied()
        .unwrap_or(Ratio::of_percent(15));
    let usual = Blend::new(args.selection.clone(), ratio);
    controller.calibrate(engine, &usual).await;
    let bar = experiment::bar(
        args.cells().len() * 3 * (args.warm_up + args.rounds),
        "runs",
    );
    let mut outcomes = Vec::new();
    // Cells of one chunk length and place share the chunks: the longest prompt's.
    for (chunk_tokens, place, cells) in args.stocks() {
        let longest = args.longest(chunk_tokens, engine.model().config.vocab_size);
        let stock = Stock::fill(place, args.scratch.as_deref(), engine, &longest).await?;
        for cell in cells {
            let stock = match cell.tier {
                Tier::DiskCold => stock.clone().read_cold(),
                Tier::DiskWarm | Tier::Memory => stock.clone(),
            };
            let workload = Workload::new(engine, &longest, &stock, cell.chunks);
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

    /// The cells that share stored chunks, with the chunks' length and place.
    fn stocks(&self) -> Vec<(usize, KvPlace, Vec<Cell>)> {
        let cells = self.cells();
        let key = |cell: &Cell| (cell.chunk_tokens, cell.tier.place());
        let shared = cells.chunk_by(|one, next| key(one) == key(next));
        let stock = |cells: &[Cell]| (cells[0].chunk_tokens, cells[0].tier.place(), cells.to_vec());
        shared.map(stock).collect()
    }

    fn setting(&self, model: &TimedModel) -> Setting {
        Setting {
            model: model.name.clone(),
            device: self.engine.device.to_string(),
            threads: threads(),
            dtype: model.options.dtype.to_string(),
            kv_dtype: model.options.kv_dtype.to_string(),
            policy: self.selection.to_string(),
            question_tokens: self.question_tokens,
            prefix_tokens: self.prefix_tokens,
            warm_up: self.warm_up,
            rounds: self.rounds,
            seed: self.seed,
        }
    }

    fn longest(&self, chunk_tokens: usize, vocab_size: usize) -> PromptSegments {
        let shape = PromptShape {
            chunk_tokens,
            question_tokens: self.question_tokens,
            prefix_tokens: self.prefix_tokens,
            seed: self.seed,
        };
        shape.segments(self.chunks.iter().copied().max().unwrap_or(1), vocab_size)
    }
}
