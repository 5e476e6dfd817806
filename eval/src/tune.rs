//! `ragweave-eval tune`: the policy, check layer, schedule and ratio that keep full prefill's
//! answers at the least work, for this model and this corpus.
//!
//! The choice is made on a part of the questions and confirmed on the others. Both, and why, go into
//! the data directory, where `serve` takes the choice as its default.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use ragweave_server::components::{Components, OpenMode};
use ragweave_server::config::{CommonArgs, Config};
use ragweave_server::verify::Tolerances;

use crate::experiment::{self, block_on};
use crate::flags::{parse_count, parse_ratio};
use crate::mode_spec::ModeSpec;
use crate::run_dir::RunModel;

mod ask;
mod candidates;
mod choice;
mod confirm;
mod corpus;
mod evidence;
mod openings;
mod outcome;
mod search;
mod source;

use ask::{Ask, Split};
use choice::Limits;
use confirm::Confirmation;
use corpus::Corpus;
use evidence::{Asked, Evidence};
use search::{Figures, REUSE, Search};
use source::{Place, Places};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Questions, one JSON object per line: question, and optionally answers, context_chunks and gold_chunks
    /// [default: the first words of chunks of the corpus, none of which comes first in its prompt, compared with full
    /// prefill only]
    #[arg(long, value_name = "FILE")]
    questions: Option<PathBuf>,
    /// Questions asked of the policies that are left in the end; a third of them confirm the choice made on the others
    #[arg(long, value_name = "N", default_value = "480", value_parser = parse_count)]
    limit: usize,
    /// Questions asked of every policy at first, to leave out what is clearly worse
    #[arg(long, value_name = "N", default_value = "24", value_parser = parse_count)]
    first: usize,
    /// Policies to search [default: all but the baselines, at several check layers]
    #[arg(long, value_name = "POLICY,..", value_delimiter = ',')]
    policies: Vec<String>,
    /// Shares of the context tokens that are not exact to search
    #[arg(long, value_name = "R,..", value_delimiter = ',', value_parser = parse_ratio,
        default_value = "0.01,0.02,0.05,0.1,0.15")]
    ratios: Vec<f64>,
    /// Longest answer in tokens
    #[arg(long, value_name = "N", default_value = "16", value_parser = parse_count)]
    max_tokens: usize,
    #[command(flatten)]
    limits: Limits,
    /// Seed of questions made from the corpus, and of what is kept back to confirm
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

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::load(&args.common)?;
    let components = Components::open(config, OpenMode::ReadOnly)?;
    let n_layers = components.engine.model().config.num_hidden_layers;
    let candidates = candidates::specs(&args.policies, &args.ratios, n_layers)?;
    let evidence = block_on(search(args, &components, candidates))?;
    if !args.dry_run {
        evidence.write(&components.config.data)?;
    }
    let text = evidence.describe(args.dry_run, &components.config.data);
    experiment::print(&evidence, text, args.json)
}

async fn search(
    args: &Args,
    components: &Components,
    candidates: Vec<ModeSpec>,
) -> anyhow::Result<Evidence> {
    let corpus = Corpus::new(components, args.max_tokens);
    let asks = match &args.questions {
        Some(path) => ask::read(path, args.limit)?,
        None => openings::from_corpus(components, &corpus, args.limit, args.seed).await?,
    };
    let (asks, places) = with_something_to_fuse(&corpus, asks).await?;
    if places.first > 0 {
        tracing::warn!("{places}: policies would look better on these than they are");
    }
    let limits = &limits(args, components);
    let asked = Asked::new(&asks, places);
    let Split { choose, confirm } = Split::new(asks, args.seed)?;
    let (figures, choices) = choose_on(args, limits, &corpus, &choose, &candidates).await?;
    let confirmation = Confirmation::find(&corpus, &confirm, &choices, limits).await?;
    let asked = asked.split(choose.len(), confirm.len());
    let model = RunModel::of(components.engine.model());
    Ok(Evidence::new(model, asked, limits, figures, confirmation))
}

/// Those asked for, and what rounding explains in the types of this model.
fn limits(args: &Args, components: &Components) -> Limits {
    let identity = &components.engine.model().identity;
    let tolerances = Tolerances::of(identity.compute_dtype, identity.kv_dtype);
    Limits {
        rounding_kl: tolerances.kl,
        ..args.limits.clone()
    }
}

/// Leaves out questions that cannot tell policies apart, because what answers them is exact under each; and where the
/// sources of all of them are.
async fn with_something_to_fuse(
    corpus: &Corpus<'_>,
    asks: Vec<Ask>,
) -> anyhow::Result<(Vec<Ask>, Places)> {
    let (mut kept, mut places) = (Vec::new(), Places::default());
    for (number, ask) in asks.into_iter().enumerate() {
        let place = corpus.place(&ask).await;
        let place = place.with_context(|| format!("question {}", number + 1))?;
        places.add(place);
        match place {
            Place::Alone | Place::First => {}
            Place::Later | Place::Unknown => kept.push(ask),
        }
    }
    let Places { alone, first, .. } = places;
    ensure!(
        !kept.is_empty(),
        "no question can tell policies apart: {alone} have a prompt of one chunk, and {first} have their source in the first \
         chunk, which is exact under every policy; ask over more chunks, put the source at a later place in \
         context_chunks, or ingest more documents"
    );
    Ok((kept, places))
}

/// All figures, and the modes that keep full prefill's quality, those that compute least first.
async fn choose_on(
    args: &Args,
    limits: &Limits,
    corpus: &Corpus<'_>,
    asks: &[Ask],
    candidates: &[ModeSpec],
) -> anyhow::Result<(Vec<Figures>, Vec<Figures>)> {
    let mut search = Search::new(corpus, asks);
    let first = args.first.min(asks.len());
    search.run(candidates, first).await?;
    let left = choice::worth_another_look(&search.figures(), limits);
    let (mut figures, mut choices) = (Vec::new(), Vec::new());
    // The cheapest first; dearer ones are asked only if none of those keeps the quality.
    for batch in left.chunks(choice::BATCH) {
        search.run(batch, asks.len()).await?;
        figures.retain(|known: &Figures| known.spec != REUSE);
        figures.extend(search.figures());
        choices = choice::choices(&figures, limits);
        if !choices.is_empty() {
            break;
        }
    }
    Ok((figures, choices))
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::choice::tests::figures;
    use super::*;

    /// With the questions that `--limit` asks by default, right answers alone can choose and confirm.
    #[test]
    fn the_default_limit_is_enough_to_choose_and_to_confirm_by_right_answers() {
        let command = Args::augment_args(clap::Command::new("tune"));
        let matches = command.try_get_matches_from(["tune"]).unwrap();
        let Args { limit, limits, .. } = Args::from_arg_matches(&matches).unwrap();
        let numbered = |n: usize| Ask {
            question: n.to_string(),
            answers: vec!["x".to_owned()],
            context_chunks: Vec::new(),
            gold_chunks: Vec::new(),
        };
        let of = Split::new((0..limit).map(numbered).collect(), 1).unwrap();
        let far_but_right = |n_answered| Figures {
            n_answered,
            ..figures("query:0.05", Some(0.9), 0.3, 0.3)
        };
        assert!(limits.are_kept_by(&far_but_right(of.choose.len())));
        assert!(limits.are_confirmed_by(&far_but_right(of.confirm.len())));
        assert!(!limits.are_kept_by(&far_but_right(299)));
    }
}
