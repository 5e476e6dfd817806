//! `ragweave-eval decay`: many queries in a row, each over a combination of chunks that was never
//! asked before. Stored KV is made per chunk and fused KV is never written back, so neither the
//! hit rate nor the time to first token may change over time, nor the store grow.

use std::path::PathBuf;
use std::thread::available_parallelism;

use anyhow::Context as _;
use ragweave_engine::SamplingParams;
use ragweave_server::components::{Components, OpenMode};
use ragweave_server::config::{CommonArgs, Config};
use ragweave_server::pipeline::Pipeline;
use serde::Serialize;

use crate::cli::{parse_count, print_json, print_text, runtime};
use crate::mode_spec::ModeSpec;
use crate::progress;
use crate::query::over_chunks;
use crate::rounds::rotated;
use crate::run_dir::{RunDir, RunHeader, RunKind, RunModel};

mod batch;
mod corpus;
pub(crate) mod flatness;
mod novel;
pub(crate) mod report;

use batch::{Asked, Batch, Log};
use corpus::{StoreBytes, chunk_ids};
use novel::{n_combinations, novel_sets};
use report::Report;

/// Arguments of `ragweave-eval decay`.
#[derive(Debug, clap::Args)]
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
    seed: u64,
    /// Directory to write to; one that holds a part of the same run is completed
    /// [default: runs/decay-<unix seconds>]
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
struct DecayConfig<'a> {
    data: PathBuf,
    corpus_chunks: usize,
    dtype: String,
    kv_dtype: String,
    threads: usize,
    queries: usize,
    batch: usize,
    chunks: usize,
    modes: Vec<String>,
    question: &'a str,
    max_tokens: usize,
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file, the flag, or the query and mode that could not be answered.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let components = Components::open(Config::load(&args.common)?, OpenMode::ReadOnly)?;
    let chunks = chunk_ids(&components.store)?;
    let sets = draw_sets(args, chunks.len())?;
    let header = RunHeader::new(
        RunKind::Decay,
        &DecayConfig::new(args, &components, chunks.len()),
        components.config.device,
        RunModel::of(components.engine.model()),
        args.seed,
    )?;
    let asker = Asker {
        args,
        components: &components,
        chunks: &chunks,
        sets: &sets,
    };
    let log = runtime()?.block_on(asker.ask_all(&header))?;
    let after = StoreBytes::of(&components.store)?;
    let report = Report::new(&args.modes, log.batches(), [log.before(), after]);
    warn_of_misses(log.batches());
    let summary = header.summary(&report);
    log.run_dir().finish("summary.json", &summary)?;
    match args.json {
        true => print_json(&summary, false),
        false => print_text(&format!("{report}\n\n{}", log.run_dir().path().display())),
    }
}

/// A set for every query under every mode: no two of a run are the same, so that no mode finds
/// what another may have left behind.
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

/// Asks the queries of a run.
struct Asker<'a> {
    args: &'a Args,
    components: &'a Components,
    /// Ids of the corpus's chunks.
    chunks: &'a [String],
    /// Indices of chunks; one set per query and mode.
    sets: &'a [Vec<usize>],
}

impl Asker<'_> {
    /// Asks what the run directory does not hold yet, batch by batch. The modes take turns, query
    /// by query. Gives back all that was measured.
    async fn ask_all(&self, header: &RunHeader) -> anyhow::Result<Log> {
        let before = StoreBytes::of(&self.components.store)?;
        let pipeline = Pipeline::for_evaluation(self.components);
        // The first answers of a process pay for buffers and page faults; and a mode that cannot
        // run is told before a directory is made.
        for mode in 0..self.args.modes.len() {
            self.ask(&pipeline, 0, mode).await?;
        }
        let out = self.args.out.as_deref();
        let (run_dir, items) = RunDir::open_or_resume(out, header.clone())?;
        let mut log = Log::new(run_dir, items, before)?;
        let first = log.batches().len();
        let n_batches = self.args.queries.div_ceil(self.args.batch);
        let queries = self.args.queries.saturating_sub(first * self.args.batch);
        let bar = progress::bar(queries * self.args.modes.len(), "queries");
        for number in first..n_batches {
            let mut batch = Batch::new(number, &self.args.modes);
            let begin = number * self.args.batch;
            for query in begin..(begin + self.args.batch).min(self.args.queries) {
                for mode in rotated(self.args.modes.len(), query) {
                    batch.add(mode, &self.ask(&pipeline, query, mode).await?);
                    bar.inc(1);
                }
            }
            log.keep(batch)?;
        }
        bar.finish_and_clear();
        Ok(log)
    }

    async fn ask(&self, pipeline: &Pipeline, query: usize, mode: usize) -> anyhow::Result<Asked> {
        let (args, spec) = (self.args, &self.args.modes[mode]);
        let set = &self.sets[query * args.modes.len() + mode];
        let chunks = set
            .iter()
            .map(|&chunk| self.chunks[chunk].clone())
            .collect();
        let sampling = SamplingParams::greedy(args.max_tokens);
        let mode = spec.mode_for(query);
        let asked = over_chunks(self.components, &args.question, chunks, mode, &sampling);
        let answer = pipeline.answer_whole(asked).await;
        let answer = answer.with_context(|| format!("query {query} under {spec}"))?;
        Ok(Asked::of(&answer))
    }
}

/// Missed chunks are computed, and their KV is then written for the next query: a growing store
/// and a rising hit rate are right, but not what this run is about.
fn warn_of_misses(batches: &[Batch]) {
    let missed: usize = batches.iter().map(Batch::chunks_missed).sum();
    if missed > 0 {
        tracing::warn!(
            missed,
            "chunks had no stored KV; ingest the corpus with KV, then run decay again"
        );
    }
}

impl<'a> DecayConfig<'a> {
    fn new(args: &'a Args, components: &Components, corpus_chunks: usize) -> Self {
        let config = &components.config;
        Self {
            data: config.data.clone(),
            corpus_chunks,
            dtype: config.dtype.to_string(),
            kv_dtype: config.kv_dtype().to_string(),
            threads: available_parallelism().map_or(1, usize::from),
            queries: args.queries,
            batch: args.batch,
            chunks: args.chunks,
            modes: args.modes.iter().map(ToString::to_string).collect(),
            question: &args.question,
            max_tokens: args.max_tokens,
        }
    }
}
