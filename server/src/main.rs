//! The `ragweave` binary: parses the command line and dispatches; everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use ragweave_server::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            // `{:#}` prints the chain of causes on one line, outermost first.
            eprintln!("ragweave: {error:#}");
            ExitCode::FAILURE
        }
    }
}
