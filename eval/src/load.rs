//! `ragweave-eval load`: an open loop. Requests arrive at the pipeline that serves them as a
//! Poisson process, whether or not earlier ones are answered, and every mode gets the same
//! arrivals, questions and chunk orders.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use ragweave_engine::SamplingParams;
use ragweave_server::components::{Components, OpenMode};
use ragweave_server::config::{CommonArgs, Config};
use serde::Serialize;
use serde_json::json;

use crate::dataset::{Question, read_questions};
use crate::experiment::{self, block_on, warn_of_misses};
use crate::flags::parse_count;
use crate::mode_spec::ModeSpec;
use crate::query::Asker;
use crate::run_dir::{RunArgs, RunDir, RunHeader, RunKind};

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
use schedule::requests;

/// Arguments of `ragweave-eval load`. The serialised fields are those that decide the figures.
#[derive(Debug, clap::Args, Serialize)]
pub(crate) struct Args {
    /// Questions, one JSON object per line, as `compare` takes them
    #[arg(long, value_name = "FILE")]
    questions: PathBuf,
    /// Use only the first N questions
    #[arg(long, value_name = "N", value_parser = parse_count)]
    limit: Option<usize>,
    /// Modes to measure under load
    #[arg(
        long,
        value_name = "SPEC,..",
        default_value = "full,reuse,hkvd@1:0.15",
        value_delimiter = ','
    )]
    modes: Vec<ModeSpec>,
    /// Arrivals per second; auto: 0.25 to 1.5 times the rate of the first mode answering one by one
    #[arg(long, value_name = "R,..|auto", default_value = "0.5,1,2,4")]
    rates: Rates,
    /// Requests per rate and mode; the first sixth is not counted
    #[arg(long, value_name = "N", default_value = "120", value_parser = parse_count)]
    requests: usize,
    /// Longest answer in tokens
    #[arg(long, value_name = "N", default_value = "16", value_parser = parse_count)]
    max_tokens: usize,
    /// Generate --max-tokens tokens whatever the model says, so that all answers are equally long
    #[arg(long)]
    ignore_eos: bool,
    /// Answers whose first token came within this time count as goodput
    #[arg(long, value_name = "MS", value_parser = parse_ms)]
    slo_ttft_ms: Option<f64>,
    /// Seed of arrivals, questions and chunk orders
    #[arg(long, value_name = "SEED", default_value = "0")]
    #[serde(skip)]
    seed: u64,
    #[command(flatten)]
    #[serde(skip)]
    run: RunArgs,
    #[command(flatten)]
    #[serde(skip)]
    common: CommonArgs,
}

/// Runs the subcommand. A full queue is not an error: such requests are counted.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let questions = read_questions(&args.questions, args.limit)?;
    let components = Components::open(Config::load(&args.common)?, OpenMode::ReadOnly)?;
    expect_chunks(&components, &questions)?;
    let max_queue = json!({"max_queue": components.config.limits.max_queue});
    let header = RunHeader::of_components(RunKind::Load, args, &components, max_queue, args.seed)?;
    let (log, rates) = block_on(measure(args, &components, &questions, header))?;
    warn_of_misses(log.cells.iter().map(Cell::chunks_missed).sum());
    let report = Report::new(&args.modes, &rates, &log.cells, args.slo_ttft_ms);
    log.run_dir.finish(&args.run, &report, &report)
}

/// Measures what the run directory does not hold yet. Returns all that was measured, and the rates.
async fn measure(
    args: &Args,
    components: &Components,
    questions: &[Question],
    header: RunHeader,
) -> anyhow::Result<(Log, Vec<f64>)> {
    let sampling = SamplingParams {
        ignore_eos: args.ignore_eos,
        ..SamplingParams::greedy(args.max_tokens)
    };
    let client = Client {
        asker: Asker::new(components, sampling),
        questions,
        requests: requests(questions, args.requests, args.seed),
    };
    // Before the directory is made, so that a mode that cannot run leaves none.
    client.warm_up(&args.modes).await?;
    let (run_dir, items): (RunDir, _) = args.run.open(header)?;
    let mut log = Log::new(run_dir, items);
    let rates = match log.rates(&args.rates) {
        Some(rates) => rates,
        None => {
            let first = args.modes.first().context("--modes names no mode")?;
            log.keep_capacity(first, client.capacity(first).await?)?
        }
    };
    let missing = log.missing(&args.modes, &rates);
    let bar = experiment::bar(missing.len() * args.requests, "requests");
    for (spec, rate) in missing {
        let requests = client.offer(&spec, rate, || bar.inc(1)).await?;
        log.keep(Cell::new(&spec, rate, requests))?;
    }
    bar.finish_and_clear();
    Ok((log, rates))
}

/// Reports an unknown chunk before time is spent on measuring.
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
