//! `ragweave doctor`: whether this machine, model and data directory are fit to serve, and if not, what to do.
//!
//! Each check is one line: ok, warn or fail. Exits with 1 if any check failed.

use std::process::ExitCode;

use crate::config::{CommonArgs, Config};
use crate::telemetry;

mod data;
mod embedder;
mod finding;
mod fusion;
mod machine;
mod model;

use finding::Finding;

/// Arguments of `ragweave doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Probe whether this model's KV can be fused, and keep the verdict in the data directory, where `serve` reads it.
    /// Loads the model; without --data the verdict is not kept
    #[arg(long)]
    verify_fusion: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs all checks. A check that cannot run reports that and does not prevent the others from running.
///
/// # Errors
/// None; the signature is that of all subcommands.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    telemetry::init(args.common.log_format);
    let config = match args.verify_fusion {
        true => Config::load_for_model(&args.common),
        false => Config::load(&args.common),
    };
    let isa = config.as_ref().map_or(None, |config| config.isa);
    let mut findings = vec![machine::processor(isa)];
    findings.extend(machine::memory());
    match config {
        Ok(config) => {
            findings.push(Finding::ok(
                "config",
                "valid; `ragweave config print` shows each value's origin",
            ));
            findings.push(machine::device(&config));
            findings.extend(machine::memory_tier(&config));
            if args.verify_fusion {
                findings.extend(fusion::verify(&config));
            }
            findings.extend(model::check(&config));
            let (embedder, finding) = embedder::check(&config);
            findings.push(finding);
            if !config.data.as_os_str().is_empty() {
                findings.extend(data::check(&config, embedder.as_deref()));
            }
        }
        Err(error) => findings.push(Finding::fail("config", error.to_string())),
    }
    for finding in &findings {
        say!("{finding}");
    }
    let failed = findings.iter().any(Finding::is_failure);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
