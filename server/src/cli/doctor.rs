//! `ragweave doctor`: is this machine, this model and this data directory fit to serve, and if not, what to do.
//!
//! Each check is one line: ok, warn or fail. Exits with 1 if any check failed.

use std::fmt;
use std::process::ExitCode;

use crate::config::{CommonArgs, Config};
use crate::telemetry;

mod data;
mod fusion;
mod machine;
mod model;

/// Arguments of `ragweave doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Probe whether this model's KV can be fused, and keep the verdict in the data directory, where `serve` reads it.
    /// Loads the model; needs no --data, but keeps nothing without
    #[arg(long)]
    verify_fusion: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    verdict: Verdict,
    subject: &'static str,
    /// What was found and, unless all is well, what to do.
    text: String,
}

impl Finding {
    fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Ok,
            subject,
            text: text.into(),
        }
    }

    fn warn(subject: &'static str, text: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warn,
            subject,
            text: text.into(),
        }
    }

    fn fail(subject: &'static str, text: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fail,
            subject,
            text: text.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        write!(f, "{verdict}  {:9} {}", self.subject, self.text)
    }
}

/// Runs all checks; a check that cannot run says so and does not keep the others from running.
///
/// # Errors
/// None; the signature is that of all subcommands.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    telemetry::init(args.common.log_format);
    let mut findings = vec![machine::processor()];
    findings.extend(machine::memory());
    let config = match args.verify_fusion {
        true => Config::load_for_model(&args.common),
        false => Config::load(&args.common),
    };
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
            if !config.data.as_os_str().is_empty() {
                findings.extend(data::check(&config));
            }
        }
        Err(error) => findings.push(Finding::fail("config", error.to_string())),
    }
    for finding in &findings {
        say!("{finding}");
    }
    let failed = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Fail);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
