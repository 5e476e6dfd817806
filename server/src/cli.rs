//! The command line: one file per subcommand, each with `Args` and `run(args) -> anyhow::Result<ExitCode>`.
//! Exit codes: 0 done, 1 failed, 2 usage or a store of another model, 3 finished with some documents failed.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[macro_use]
mod output;

pub mod config;
pub mod doctor;
pub mod ingest;
pub mod query;
pub mod retrieve;
mod runtime;
pub mod serve;
mod signals;
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
    /// The error that stopped the subcommand; the caller prints it and exits with 1.
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
