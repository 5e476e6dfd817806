//! `ragweave store stats|verify`: reports what a data directory holds, and whether every byte is still as written.

use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use indicatif::ProgressBar;
use ragweave_store::{Store, StoreError, StoreStats, VerifyReport};

use crate::client::server_url;
use crate::config::{self, CommonArgs};
use crate::error::ServerError;
use crate::telemetry;

mod remote;

/// Arguments of `ragweave store`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Count documents, chunks, blobs and bytes
    Stats {
        #[command(flatten)]
        inspect: Inspect,
        /// Ask the running server that holds the data directory; also shows the server's own figures
        #[arg(long, value_name = "URL", value_parser = server_url)]
        addr: Option<String>,
    },
    /// Read and check every blob; bad ones are set aside and computed again on their next use. Exits with 3 if any
    Verify(Inspect),
}

#[derive(Debug, clap::Args)]
struct Inspect {
    #[command(flatten)]
    common: CommonArgs,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// Exit code of a verification that found damage.
const DAMAGED: u8 = 3;

/// Runs the subcommand.
///
/// # Errors
/// If the metadata of the store cannot be read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (Command::Stats { inspect, .. } | Command::Verify(inspect)) = &args.command;
    telemetry::init(inspect.common.log_format);
    if let Command::Stats {
        addr: Some(addr), ..
    } = &args.command
    {
        return remote::stats(addr, inspect.json);
    }
    let opened = config::data_dir(&inspect.common).and_then(|data| open(&data));
    let store = match opened {
        Ok(store) => store,
        Err(error) => {
            eprintln!("ragweave: {error}");
            return Ok(ExitCode::from(error.exit_code()));
        }
    };
    match &args.command {
        Command::Stats { inspect, .. } => stats(&store, inspect.json),
        Command::Verify(inspect) => verify(&store, inspect.json),
    }
}

/// Opens an existing store, whatever its identity is.
pub(super) fn open(data: &Path) -> Result<Store, ServerError> {
    Store::inspect(data).map_err(|error| match error {
        StoreError::Locked { path } => ServerError::Locked { path },
        StoreError::NotAStore { path } => ServerError::NotAStore { path },
        other => other.into(),
    })
}

fn stats(store: &Store, json: bool) -> anyhow::Result<ExitCode> {
    let stats = store.stats().context("count the store")?;
    if json {
        let mut object = serde_json::to_value(&stats)?;
        if let Some(fields) = object.as_object_mut() {
            fields.insert("identity".to_owned(), store.identity().to_string().into());
        }
        say!("{}", serde_json::to_string_pretty(&object)?);
    } else {
        print_stats(store, &stats);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_stats(store: &Store, stats: &StoreStats) {
    say!("made by      {}", store.identity());
    say!("documents    {}", stats.documents);
    say!("chunks       {}", stats.chunks);
    say!(
        "blobs        {} ({} quarantined)",
        stats.blobs,
        stats.quarantined
    );
    say!(
        "bytes        {} live, {} dead, {} in all, in {} segments",
        stats.live_bytes,
        stats.dead_bytes,
        stats.total_bytes,
        stats.segments
    );
    say!("free on disk {} bytes", stats.free_bytes);
    say!(
        "commits      {} ({} lost)",
        stats.commit_seq,
        stats.lost_commits
    );
}

fn verify(store: &Store, json: bool) -> anyhow::Result<ExitCode> {
    let bar = if stderr().is_terminal() {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    let report = store
        .verify(|progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.checked);
        })
        .context("verify the store")?;
    bar.finish_and_clear();
    if json {
        say!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print_report(&report);
    }
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DAMAGED)
    })
}

fn print_report(report: &VerifyReport) {
    say!(
        "{} blobs read, {} bytes, {} bad",
        report.blobs,
        report.bytes,
        report.bad.len()
    );
    for bad in &report.bad {
        say!("bad blob {}: {}", bad.key, bad.what);
    }
    for segment in &report.damaged_segments {
        say!("damaged segment: {segment}");
    }
    if !report.bad.is_empty() {
        say!(
            "bad blobs are set aside; `ragweave ingest` of their documents, or their next use, computes them again"
        );
    }
}
