//! The command line: one module per subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ragweave_server::error::ServerError;

use crate::ttft::bench;
use crate::{
    compare, controller, decay, embed, index, load, logits, quality, report, retrieval, tokens,
    ttft, tune,
};

/// Measures ragweave: logits to check against, answer quality, time to first token.
#[derive(Debug, Parser)]
#[command(name = "ragweave-eval", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the logits of a prompt's last position as one JSON object
    Logits(logits::Args),
    /// Print the vectors that the embedder makes of texts
    Embed(embed::Args),
    /// Print the token ids of texts as one JSON object
    Tokens(tokens::Args),
    /// Answer questions under several modes: exact match, TTFT, retrieval recall
    Compare(compare::Args),
    /// Measure policies at several ratios over datasets: scores, fidelity to full prefill
    Quality(quality::Args),
    /// Find the policy that keeps full prefill's answers at the least work, for a data directory
    Tune(tune::Args),
    /// Time the engine at one context length
    Bench(bench::Args),
    /// Time to first token of modes at several context lengths, stage by stage
    Ttft(ttft::Args),
    /// Compare the choices of auto with full prefill and blend, over lengths, ratios and tiers
    Controller(controller::Args),
    /// Latency and goodput under Poisson arrivals at several rates
    Load(load::Args),
    /// Ask many new combinations of chunks in a row: hit rate and TTFT must stay flat
    Decay(decay::Args),
    /// Recall, time and memory of the search graph beside exact search, over given or made vectors
    Index(index::Args),
    /// Find the passages of a dataset's questions among all of its passages
    Retrieval(retrieval::Args),
    /// Make a page of charts and tables from run directories
    Report(report::Args),
}

impl Cli {
    /// Runs the chosen subcommand.
    ///
    /// # Errors
    /// Whatever stops the subcommand; [`exit_code`] turns it into the exit code of the process.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Logits(args) => logits::run(&args),
            Command::Embed(args) => embed::run(&args),
            Command::Tokens(args) => tokens::run(&args),
            Command::Compare(args) => compare::run(&args),
            Command::Quality(args) => quality::run(&args),
            Command::Tune(args) => tune::run(&args),
            Command::Bench(args) => bench::run(&args),
            Command::Ttft(args) => ttft::run(&args),
            Command::Controller(args) => controller::run(&args),
            Command::Load(args) => load::run(&args),
            Command::Decay(args) => decay::run(&args),
            Command::Index(args) => index::run(&args),
            Command::Retrieval(args) => retrieval::run(&args),
            Command::Report(args) => report::run(&args),
        }
    }
}

/// 2 if the configuration or the choice of directory is at fault, else 1.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let of_server = error
        .downcast_ref::<ServerError>()
        .map(ServerError::exit_code);
    ExitCode::from(of_server.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
