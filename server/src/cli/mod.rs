//! The command line: one file per subcommand, each with `Args` and `run(args) -> anyhow::Result<ExitCode>`.
//! Exit codes: 0 done, 1 fatal, 2 usage or a store of another model, 3 finished with some documents failed.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Prints a line like `println!`, but ends quietly where that panics: when nobody reads standard
/// output any more, as in `ragweave store stats | head -1`.
macro_rules! say {
    () => { $crate::cli::write_out(format_args!("\n")) };
    ($($args:tt)*) => { $crate::cli::write_out(format_args!("{}\n", format_args!($($args)*))) };
}

pub mod config;
pub mod doctor;
pub mod ingest;
pub mod query;
pub mod retrieve;
pub mod serve;
pub mod store;

/// Answers questions over your documents from precomputed, fused KV caches.
#[derive(Debug, Parser)]
#[command(name = "ragweave", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve Generate and the other RPCs over gRPC
    Serve(serve::Args),
    /// Split, embed and precompute the KV of documents
    Ingest(ingest::Args),
    /// Ask a running server and stream its answer
    Query(query::Args),
    /// Show which chunks a running server finds for a question
    Retrieve(retrieve::Args),
    /// Inspect a data directory
    Store(store::Args),
    /// Check device, model, store and disk, and say what to do
    Doctor(doctor::Args),
    /// Print or check the configuration
    Config(config::Args),
}

impl Cli {
    /// Runs the chosen subcommand to its end.
    ///
    /// # Errors
    /// Whatever stops the subcommand; the caller prints it and exits with 1.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Ingest(args) => ingest::run(args),
            Command::Query(args) => query::run(args),
            Command::Retrieve(args) => retrieve::run(args),
            Command::Store(args) => store::run(args),
            Command::Doctor(args) => doctor::run(args),
            Command::Config(args) => config::run(args),
        }
    }
}

/// Exit code of a program whose output nobody reads: 128 + SIGPIPE, as shells report it.
const OUTPUT_CLOSED: i32 = 141;

/// Writes to standard output at once; ends the process when that is closed.
fn write_out(text: fmt::Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_fmt(text).and_then(|()| stdout.flush());
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            std::process::exit(OUTPUT_CLOSED);
        }
        Err(error) => tracing::warn!(%error, "standard output cannot be written"),
    }
}

/// Runs a client subcommand; it needs no more than one thread.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
