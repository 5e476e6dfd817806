//! Logs: text or JSON lines on standard error, filtered by `RUST_LOG`. They never contain prompt or document text.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::environment;

/// The filter of a subcommand if `RUST_LOG` is not set.
const DEFAULT_FILTER: &str = "warn,ragweave=info";

/// Format of the log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Installs the process's log subscriber. A second call in one process keeps the first one.
pub fn init(format: LogFormat) {
    let directives = environment::log_filter().unwrap_or_else(|| DEFAULT_FILTER.to_owned());
    let (filter, rejected) = match EnvFilter::try_new(&directives) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr);
    // `try_init` fails only if a subscriber already exists, as in tests that start two servers.
    let _already_set = match format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    if let Some(error) = rejected {
        tracing::warn!(%directives, %error, "RUST_LOG is not a valid filter; using {DEFAULT_FILTER}");
    }
}
