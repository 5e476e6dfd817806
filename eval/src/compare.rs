//! `ragweave-eval compare`: the pipeline that serves requests answers every question under every
//! mode; exact match and time to first token side by side, retrieval recall beside them.

use std::path::PathBuf;

use anyhow::Context as _;
use ragweave_engine::SamplingParams;
use ragweave_server::components::{Components, OpenMode};
use ragweave_server::config::{CommonArgs, Config};

use crate::dataset::{Question, read_questions};
use crate::experiment::{self, block_on, warn_of_misses};
use crate::flags::parse_count;
use crate::mode_spec::ModeSpec;
use crate::query::Asker;

mod report;
mod trial;

use report::Report;
use trial::Examiner;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Questions, one JSON object per line: id, question, answers, context_chunks, and optionally
    /// type and gold_chunks
    #[arg(long, value_name = "FILE")]
    questions: PathBuf,
    /// Ask only the first N questions
    #[arg(long, value_name = "N", value_parser = parse_count)]
    limit: Option<usize>,
    /// Modes to compare, such as full,reuse,hkvd@2:0.1,first-k:0.15,random:0.1
    /// [default: full, reuse, and hkvd@1, hkvd@2, first-k, random at 5, 10, 15 and 20 %]
    #[arg(long, value_name = "SPEC,..", value_delimiter = ',')]
    modes: Vec<ModeSpec>,
    /// Times each question is asked under each mode; more make the times steadier
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count)]
    repeats: usize,
    /// Longest answer in tokens
    #[arg(long, value_name = "N", default_value = "16", value_parser = parse_count)]
    max_tokens: usize,
    /// Chunks retrieved for the recall figure
    #[arg(long, value_name = "K", default_value = "6", value_parser = parse_count)]
    top_k: usize,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: CommonArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let questions = read_questions(&args.questions, args.limit)?;
    let config = Config::load(&args.common)?;
    let components = Components::open(config, OpenMode::ReadOnly)?;
    let specs = match args.modes.as_slice() {
        [] => ModeSpec::defaults(components.engine.model().config.num_hidden_layers),
        modes => modes.to_vec(),
    };
    let report = block_on(examine(args, &components, &questions, &specs))?;
    warn_of_misses(report.chunks_missed());
    experiment::print(&report, &report, args.json)
}

async fn examine(
    args: &Args,
    components: &Components,
    questions: &[Question],
    specs: &[ModeSpec],
) -> anyhow::Result<Report> {
    let sampling = SamplingParams::greedy(args.max_tokens);
    let examiner = Examiner(Asker::new(components, sampling));
    let retrieval = examiner.retrieve(questions, args.top_k).await;
    let retrieval = retrieval.context("measure retrieval")?;
    let trials = examiner.examine(questions, specs, args.repeats).await?;
    let model = components.engine.model().name.clone();
    let device = components.config.device.to_string();
    Ok(Report::new(
        [model, device],
        questions,
        specs,
        &trials,
        retrieval,
    ))
}
