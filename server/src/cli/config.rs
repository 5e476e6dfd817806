//! `ragweave config print|check`: prints each value with its origin, or checks whether the configuration is valid.

use std::process::ExitCode;

use clap::Subcommand;
use ragweave_engine::ModelConfig;

use crate::config::{self, CommonArgs, Config, Setting};
use crate::error::ServerError;
use crate::fit;

/// Arguments of `ragweave config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print every key with its value and where the value came from
    Print {
        #[command(flatten)]
        common: CommonArgs,
        /// One JSON array of {key, value, origin}
        #[arg(long)]
        json: bool,
    },
    /// Check the configuration as `serve` and `ingest` would read it
    Check {
        #[command(flatten)]
        common: CommonArgs,
    },
}

/// Runs the subcommand. An invalid configuration exits with 2.
///
/// # Errors
/// Only if output cannot be encoded.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let outcome = match args.command {
        Command::Print { common, json } => match config::explain(&common) {
            Ok(settings) => return print(&settings, json),
            Err(error) => Err(error),
        },
        Command::Check { common } => Config::load(&common).and_then(|config| fits(&config)),
    };
    match outcome {
        Ok(()) => {
            say!("configuration is valid");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("ragweave: {error}");
            Ok(ExitCode::from(error.exit_code()))
        }
    }
}

/// Whether the model has the layers that `[fusion]` names. `doctor` reports a model that cannot be read.
fn fits(config: &Config) -> Result<(), ServerError> {
    match ModelConfig::from_dir(&config.model) {
        Ok(model) => Ok(fit::fusion(config, &model)?),
        Err(_) => Ok(()),
    }
}

fn print(settings: &[Setting], json: bool) -> anyhow::Result<ExitCode> {
    if json {
        say!("{}", serde_json::to_string_pretty(settings)?);
        return Ok(ExitCode::SUCCESS);
    }
    let shown: Vec<String> = settings.iter().map(shown).collect();
    let width = shown.iter().map(String::len).max().unwrap_or(0);
    for (line, setting) in shown.iter().zip(settings) {
        say!("{line:width$}  # {}", setting.origin);
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(setting: &Setting) -> String {
    match &setting.value {
        Some(value) => format!("{} = {value}", setting.key),
        None => setting.key.to_owned(),
    }
}
