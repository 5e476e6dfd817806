//! `ragweave-eval load`: an open loop. Requests arrive at the pipeline that serves them as a
//! Poisson process, whether or not the ones before are answered, and every mode gets the same
//! arrivals, questions and chunk orders.

use std::collections::HashSet;
use std::path::PathBuf;
use std::thread::available_parallelism;

use anyhow::{Context as _, ensure};
use ragweave_server::components::{Components, OpenMode};
use ragweave_server::config::{CommonArgs, Config};
use serde::Serialize;

use crate::cli::{parse_count, print_json, print_text, runtime};
use crate::dataset::{Question, read_questions};
use crate::mode_spec::ModeSpec;
use crate::progress;
use crate::run_dir::{RunDir, RunHeader, RunKind, RunModel};

mod cell;
mod client;
mod latency;
mod rates;
pub(crate) mod report;
mod schedule;

use cell::{Cell, Log};
use client::Client;
use rates::Rates;
use report::Report;

/// Arguments of `ragweave-eval load`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Questions, one JSON object per line, as `compare` takes them
    #[arg(long, value_name = "FILE")]
    questions: PathBuf,
    /// Use only the first N questions
    #[arg(long, value_name = "N", value_parser = parse_count)]
    limit: Option<usize>,
    /// Modes to load
    #[arg(
        long,
        value_name = "SPEC,..",
        default_value = "full,reuse,hkvd@1:0.15",
        value_delimiter = ','
    )]
    modes: Vec<ModeSpec>,
    /// Arrivals per second; auto: 0.25 to 1.5 times what the first mode answers one by one
    #[arg(long, value_name = "R,..|auto", default_value = "0.5,1,2,4")]
    rates: Rates,
    /// Requests per rate and mode; the first sixth is not counted
    #[arg(long, value_name = "N", default_value = "120", value_parser = parse_count)]
    requests: usize,
    /// Longest answer in tokens
    #[arg(long, value_name = "N", default_value = "16", value_parser = parse_count)]
    max_tokens: usize,
    /// Generate --max-tokens tokens whatever the model says, so that all answers are as long
    #[arg(long)]
    ignore_eos: bool,
    /// Answers whose first token came within this time count as goodput
    #[arg(long, value_name = "MS", value_parser = parse_ms)]
    slo_ttft_ms: Option<f64>,
    /// Seed of arrivals, questions and chunk orders
    #[arg(long, value_name = "SEED", default_value = "0")]
    seed: u64,
    /// Directory to write to; one that holds a part of the same run is completed
    /// [default: runs/load-<unix seconds>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The summary as one JSON object on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// What decides the figures, as the run directory tells it.
#[derive(Serialize)]
struct LoadConfig<'a> {
    data: PathBuf,
    questions: &'a PathBuf,
    limit: Option<usize>,
    dtype: String,
    kv_dtype: String,
    threads: usize,
    max_queue: usize,
    modes: Vec<String>,
    rates: &'a Rates,
    requests: usize,
    max_tokens: usize,
    ignore_eos: bool,
    slo_ttft_ms: Option<f64>,
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file, the flag, or the question and mode that could not be answered. A full queue is
/// no error: such requests are counted.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let questions = read_questions(&args.questions, args.limit)?;
    let components = Components::open(Config::load(&args.common)?, OpenMode::ReadOnly)?;
    expect_chunks(&components, &questions)?;
    let header = RunHeader::new(
        RunKind::Load,
        &LoadConfig::new(args, &components),
        components.config.device,
        RunModel::of(components.engine.model()),
        args.seed,
    )?;
    let measured = measure(args, &components, &questions, &header);
    let (log, rates) = runtime()?.block_on(measured)?;
    warn_of_misses(log.cells());
    let report = Report::new(&args.modes, &rates, log.cells(), args.slo_ttft_ms);
    let summary = header.summary(&report);
    log.run_dir().finish("summary.json", &summary)?;
    match args.json {
        true => print_json(&summary, false),
        false => print_text(&format!("{report}\n\n{}", log.run_dir().path().display())),
    }
}

/// Measures what the run directory does not hold yet. Gives back all that was measured, and the
/// rates.
async fn measure(
    args: &Args,
    components: &Components,
    questions: &[Question],
    header: &RunHeader,
) -> anyhow::Result<(Log, Vec<f64>)> {
    let client = Client::new(args, components, questions);
    // Before the directory is made: a mode that cannot run leaves none behind.
    client.warm_up(&args.modes).await?;
    let (run_dir, items) = RunDir::open_or_resume(args.out.as_deref(), header.clone())?;
    let mut log = Log::new(run_dir, items)?;
    let rates = match log.rates(&args.rates) {
        Some(rates) => rates,
        None => {
            let first = args.modes.first().context("--modes names no mode")?;
            log.keep_capacity(first, client.capacity(first).await?)?
        }
    };
    let missing = log.missing(&args.modes, &rates);
    let bar = progress::bar(missing.len() * args.requests, "requests");
    for (spec, rate) in missing {
        let requests = client.offer(&spec, rate, || bar.inc(1)).await?;
        log.keep(Cell::new(&spec, rate, requests))?;
    }
    bar.finish_and_clear();
    Ok((log, rates))
}

/// Tells of an unknown chunk before minutes go into measuring.
fn expect_chunks(components: &Components, questions: &[Question]) -> anyhow::Result<()> {
    let mut known = HashSet::new();
    for question in questions {
        for chunk in &question.context_chunks {
            let is_known = known.contains(chunk) || components.store.chunk(chunk)?.is_some();
            ensure!(
                is_known,
                "--questions: {} is asked over chunk {chunk:?}, which the corpus in {} does not \
                 hold; ingest it, or give the questions of this corpus",
                question.id,
                components.config.data.display()
            );
            known.insert(chunk);
        }
    }
    Ok(())
}

/// Missed chunks are computed, whatever the mode says: such times are not what they are called.
fn warn_of_misses(cells: &[Cell]) {
    let missed: usize = cells.iter().map(Cell::chunks_missed).sum();
    if missed > 0 {
        tracing::warn!(
            missed,
            "chunks without stored KV were computed in full; ingest the corpus with KV, then \
             load again"
        );
    }
}

impl<'a> LoadConfig<'a> {
    fn new(args: &'a Args, components: &Components) -> Self {
        let config = &components.config;
        Self {
            data: config.data.clone(),
            questions: &args.questions,
            limit: args.limit,
            dtype: config.dtype.to_string(),
            kv_dtype: config.kv_dtype().to_string(),
            threads: available_parallelism().map_or(1, usize::from),
            max_queue: config.limits.max_queue,
            modes: args.modes.iter().map(ToString::to_string).collect(),
            rates: &args.rates,
            requests: args.requests,
            max_tokens: args.max_tokens,
            ignore_eos: args.ignore_eos,
            slo_ttft_ms: args.slo_ttft_ms,
        }
    }
}

/// A time above 0 in milliseconds.
fn parse_ms(text: &str) -> Result<f64, String> {
    let limit: Option<f64> = text.trim().parse().ok();
    limit
        .filter(|limit| limit.is_finite() && *limit > 0.0)
        .ok_or_else(|| format!("`{text}` is not a number of milliseconds above 0"))
}

#[cfg(test)]
mod tests {
    use super::parse_ms;

    #[test]
    fn a_limit_is_a_positive_time() {
        assert_eq!(parse_ms("2.5"), Ok(2.5));
        for text in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(parse_ms(text).unwrap_err().contains(text), "{text}");
        }
    }
}
