//! `ragweave-eval tune`: the policy, check layer, schedule and ratio that keep full prefill's
//! answers at the least work, for this model and this corpus.
//!
//! The choice, and why, goes into the data directory, where `serve` takes it as its default.

use std::path::PathBuf;

use ragweave_server::components::{Components, OpenMode};
use ragweave_server::config::{CommonArgs, Config};

use crate::cli::{parse_count, parse_ratio, print_json, print_text, runtime};

mod ask;
mod candidates;
mod choice;
mod corpus;
mod evidence;
mod search;
mod trial;

use choice::Limits;
use corpus::Corpus;
use evidence::Evidence;
use search::Search;

/// Arguments of `ragweave-eval tune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Questions, one JSON object per line: question, and optionally answers and context_chunks
    /// [default: the first words of chunks of the corpus, compared with full prefill only]
    #[arg(long, value_name = "FILE")]
    questions: Option<PathBuf>,
    /// Questions asked of the policies that are left in the end
    #[arg(long, value_name = "N", default_value = "400", value_parser = parse_count)]
    limit: usize,
    /// Questions asked of every policy at first, to leave out what is clearly worse
    #[arg(long, value_name = "N", default_value = "24", value_parser = parse_count)]
    first: usize,
    /// Policies to search [default: all but the baselines, at several check layers]
    #[arg(long, value_name = "POLICY,..", value_delimiter = ',')]
    policies: Vec<String>,
    /// Shares of the reusable rows to search
    #[arg(long, value_name = "R,..", value_delimiter = ',', value_parser = parse_ratio,
        default_value = "0.01,0.02,0.05,0.1,0.15")]
    ratios: Vec<f64>,
    /// Longest answer in tokens
    #[arg(long, value_name = "N", default_value = "16", value_parser = parse_count)]
    max_tokens: usize,
    #[command(flatten)]
    limits: Limits,
    /// Seed of questions made from the corpus
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Show the choice without writing it
    #[arg(long)]
    dry_run: bool,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file, flag or question at fault.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::load(&args.common)?;
    let components = Components::open(config, OpenMode::ReadOnly)?;
    let n_layers = components.engine.model().config.num_hidden_layers;
    let candidates = candidates::specs(&args.policies, &args.ratios, n_layers)?;
    let evidence = runtime()?.block_on(search(args, &components, candidates))?;
    if !args.dry_run {
        evidence.write(&components.config.data)?;
    }
    match args.json {
        true => print_json(&evidence, false),
        false => print_text(&evidence.describe(args.dry_run, &components.config.data)),
    }
}

async fn search(
    args: &Args,
    components: &Components,
    candidates: Vec<crate::mode_spec::ModeSpec>,
) -> anyhow::Result<Evidence> {
    let corpus = Corpus::new(components, args.max_tokens);
    let asks = match &args.questions {
        Some(path) => ask::read(path, args.limit)?,
        None => ask::from_corpus(components, args.limit, args.seed)?,
    };
    let mut search = Search::new(&corpus, &asks);
    let first = args.first.min(asks.len());
    search.run(&candidates, first).await?;
    let left = choice::worth_another_look(&search.figures(), &args.limits);
    let (mut figures, mut chosen) = (Vec::new(), None);
    // The cheapest first; dearer ones are asked only if none of those keeps the quality.
    for batch in left.chunks(choice::BATCH) {
        search.run(batch, asks.len()).await?;
        figures.extend(search.figures());
        chosen = choice::choose(&figures, &args.limits).cloned();
        if chosen.is_some() {
            break;
        }
    }
    Ok(Evidence::new(
        components,
        &asks,
        &args.limits,
        figures,
        chosen,
    ))
}
