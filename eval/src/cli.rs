//! The command line: one file per subcommand, and what their flags share.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ragweave_engine::Ratio;
use ragweave_server::error::ServerError;
use serde::Serialize;

use crate::{bench, compare, controller, decay, load, logits, quality, report, ttft, tune};

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
    /// Answer questions under several modes: exact match, TTFT, retrieval recall
    Compare(compare::Args),
    /// Measure policies at several ratios over datasets: scores, fidelity to full prefill
    Quality(quality::Args),
    /// Find the policy that keeps full prefill's answers at the least work, for a data directory
    Tune(tune::Args),
    /// Time the engine on a model of random weights
    Bench(bench::Args),
    /// Time to first token of modes at several context lengths, stage by stage
    Ttft(ttft::Args),
    /// Hold the choices of auto against full prefill and blend, over lengths, ratios and tiers
    Controller(controller::Args),
    /// Latency and goodput under Poisson arrivals at several rates
    Load(load::Args),
    /// Ask many new combinations of chunks in a row: hit rate and TTFT must stay flat
    Decay(decay::Args),
    /// Make a page of charts and tables from the directories of runs
    Report(report::Args),
}

impl Cli {
    /// Runs the chosen subcommand to its end.
    ///
    /// # Errors
    /// Whatever stops the subcommand; [`exit_code`] is the process's.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Logits(args) => logits::run(&args),
            Command::Compare(args) => compare::run(&args),
            Command::Quality(args) => quality::run(&args),
            Command::Tune(args) => tune::run(&args),
            Command::Bench(args) => bench::run(&args),
            Command::Ttft(args) => ttft::run(&args),
            Command::Controller(args) => controller::run(&args),
            Command::Load(args) => load::run(&args),
            Command::Decay(args) => decay::run(&args),
            Command::Report(args) => report::run(&args),
        }
    }
}

/// 2 where configuration or the choice of directory is at fault, else 1.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let of_server = error
        .downcast_ref::<ServerError>()
        .map(ServerError::exit_code);
    ExitCode::from(of_server.unwrap_or(1))
}

/// The runtime that asks the engine and, in `compare`, runs the pipeline.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}

/// Prints one JSON object: on one line, or indented.
pub(crate) fn print_json(value: &impl Serialize, compact: bool) -> anyhow::Result<()> {
    let text = match compact {
        true => serde_json::to_string(value)?,
        false => serde_json::to_string_pretty(value)?,
    };
    print_text(&text)
}

/// Prints text and a line end. A closed pipe is an error here, not a panic.
pub(crate) fn print_text(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}

/// A share between 0 and 1.
pub(crate) fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse::<Ratio>();
    ratio.map(Ratio::get).map_err(|error| error.to_string())
}

/// A token id; blanks around it are fine, so that lists can be pasted.
pub(crate) fn parse_id(text: &str) -> Result<u32, String> {
    text.trim()
        .parse()
        .map_err(|error| format!("`{text}` is not a token id: {error}"))
}

/// A count of at least one.
pub(crate) fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(n) => Ok(n),
        Err(error) => Err(format!("{error}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ratios_outside_their_range_are_refused() {
        assert_eq!(parse_ratio("0.15"), Ok(0.15));
        assert_eq!(parse_ratio("1"), Ok(1.0));
        for text in ["NaN", "-0.1", "1.01", "inf"] {
            assert!(
                parse_ratio(text).unwrap_err().contains("between 0 and 1"),
                "{text}"
            );
        }
        assert!(parse_ratio("ten").is_err());
    }
}
