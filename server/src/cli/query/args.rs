//! The flags of `query`.

use super::options::{AskArgs, ServerArgs};

/// Arguments of `ragweave query`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The question
    pub(super) question: String,
    /// Ask with full prefill, plain reuse, blend and auto in turn, and compare their times
    #[arg(long)]
    pub(super) compare: bool,
    /// With --compare: number of measured runs of each mode, after a warm-up run
    #[arg(long, value_name = "N", default_value_t = 5, requires = "compare",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) repeats: u32,
    /// One JSON object instead of text
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
    #[command(flatten)]
    pub(super) ask: AskArgs,
}
