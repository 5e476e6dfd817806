//! The `ragweave-eval` binary: parses the command line and dispatches.

use std::process::ExitCode;

use clap::Parser;
use ragweave_eval::cli::{Cli, exit_code};
use ragweave_server::telemetry::{self, LogFormat};

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init(LogFormat::default());
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `{:#}` prints the chain of causes on one line, outermost first.
            eprintln!("ragweave-eval: {error:#}");
            exit_code(&error)
        }
    }
}
