//! `ragweave-eval decay`: many queries in a row, each over a combination of chunks that was never
//! asked before. Stored KV is made per chunk and fused KV is never written back, so neither the
//! hit rate nor the time to first token may change over time, nor the store grow.

use anyhow::Context as _;
use ragweave_engine::SamplingParams;
use ragweave_server::components::{Components, OpenMode};
use ragweave_server::config::{CommonArgs, Config};
use serde::Serialize;
use serde_json::json;

use crate::experiment::{self, block_on, rotated, warn_of_misses};
use crate::flags::parse_count;
use crate::mode_spec::ModeSpec;
use crate::query::{Asker, chunk_ids};
use crate::run_dir::{RunArgs, RunDir, RunHeader, RunKind};

mod batch;
pub(crate) mod flatness;
mod novel;
pub(crate) mod report;

use batch::{Batch, Log, StoreBytes};
use novel::{n_combinations, novel_sets};
use report::Report;

/// Arguments of `ragweave-eval decay`. What is serialised decides the figures.
#[derive(Debug, clap::Args, Serialize)]
pub(crate) struct Args {
    /// Queries under each mode
    #[arg(long, value_name = "N", default_value = "1000", value_parser = parse_count)]
    queries: usize,
    /// Queries that are summed up in one row
    #[arg(long, value_name = "N", default_value = "100", value_parser = parse_count)]
    batch: usize,
    /// Chunks of each query
    #[arg(long, value_name = "N", default_value = "6", value_parser = parse_count)]
    chunks: usize,
    /// Modes to ask under
    #[arg(
        long,
        value_name = "SPEC,..",
        default_value = "full,reuse,hkvd@1:0.15",
        value_delimiter = ','
    )]
    modes: Vec<ModeSpec>,
    /// What is asked over every combination
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "What do these passages say?"
    )]
    question: String,
    /// Longest answer in tokens
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count)]
    max_tokens: usize,
    /// Seed of the combinations
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

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let components = Components::open(Config::load(&args.common)?, OpenMode::ReadOnly)?;
    let chunks = chunk_ids(&components.store)?;
    let sets = draw_sets(args, chunks.len())?;
    let corpus = json!({"corpus_chunks": chunks.len()});
    let header = RunHeader::of_components(RunKind::Decay, args, &components, corpus, args.seed)?;
    let log = block_on(ask_all(args, &components, &chunks, &sets, header))?;
    let after = StoreBytes::of(&components.store)?;
    let report = Report::new(&args.modes, &log.batches, [log.before, after]);
    // The KV of missed chunks is then written for the next query: the store grows and the hit rate rises.
    warn_of_misses(log.batches.iter().map(Batch::chunks_missed).sum());
    log.run_dir.finish(&args.run, &report, &report)
}

/// A set for every query under every mode: no two of a run are the same, so that no mode finds
/// what another may have left.
fn draw_sets(args: &Args, n_chunks: usize) -> anyhow::Result<Vec<Vec<usize>>> {
    let n_sets = args.queries.saturating_mul(args.modes.len());
    novel_sets(n_chunks, args.chunks, n_sets, args.seed).with_context(|| {
        format!(
            "the corpus has {n_chunks} chunks, of which {} sets of {} can be made, and {} queries \
             under {} modes need {n_sets}; change --chunks, lower --queries, or ingest more",
            n_combinations(n_chunks, args.chunks),
            args.chunks,
            args.queries,
            args.modes.len()
        )
    })
}

/// Asks what the run directory does not hold yet, batch by batch. The modes take turns, query by
/// query. `sets`: indices of `chunks`, one set per query and mode. Returns all that was measured.
async fn ask_all(
    args: &Args,
    components: &Components,
    chunks: &[String],
    sets: &[Vec<usize>],
    header: RunHeader,
) -> anyhow::Result<Log> {
    let before = StoreBytes::of(&components.store)?;
    let asker = &Asker::new(components, SamplingParams::greedy(args.max_tokens));
    let ask = async |query: usize, mode: usize| {
        let spec = &args.modes[mode];
        let set = sets[query * args.modes.len() + mode].iter();
        let chunks = set.map(|&chunk| chunks[chunk].clone()).collect();
        let asked = asker.over_chunks(&args.question, chunks, spec.mode_for(query));
        let answer = asker.pipeline.answer_whole(asked).await;
        answer.with_context(|| format!("query {query} under {spec}"))
    };
    // The first answers of a process pay for buffers and page faults; and a mode that cannot
    // run is reported before a directory is made.
    for mode in 0..args.modes.len() {
        ask(0, mode).await?;
    }
    let (run_dir, items): (RunDir, _) = args.run.open(header)?;
    let mut log = Log::new(run_dir, items, before)?;
    let first = log.batches.len();
    let queries = args.queries.saturating_sub(first * args.batch);
    let bar = experiment::bar(queries * args.modes.len(), "queries");
    for number in first..args.queries.div_ceil(args.batch) {
        let mut batch = Batch::new(number, &args.modes);
        let begin = number * args.batch;
        for query in begin..(begin + args.batch).min(args.queries) {
            for mode in rotated(args.modes.len(), query) {
                batch.modes[mode].add(&ask(query, mode).await?);
                bar.inc(1);
            }
        }
        log.keep(batch)?;
    }
    bar.finish_and_clear();
    Ok(log)
}
