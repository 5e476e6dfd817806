//! `ragweave ingest PATH...`: puts documents into a data directory; can be interrupted and repeated.
//!
//! Exit codes: 0 done, 1 stopped by something that would stop every document, 2 usage, 3 finished with some documents
//! failed (listed in `failures.jsonl` of the data directory), 130 interrupted after a whole document.

use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::DecimalBytes;

use crate::client::{DEFAULT_ADDR, server_url};
use crate::components::{Components, OpenMode};
use crate::config::{CommonArgs, Config};
use crate::error::ServerError;
use crate::ingest::{IngestOptions, Ingestor};
use crate::{sizing, telemetry};

mod corpus;
mod dry_run;
mod ending;
mod failures;
mod job;
mod progress;
mod remote;
mod shell;

use super::runtime::multi_threaded;
use ending::{Ending, exit_code};
use job::Job;
use progress::{Progress, ProgressKind};
use shell::quoted;

/// Arguments of `ragweave ingest`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files or folders: .txt, .md, .jsonl ({"id", "text", "metadata"} per line)
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Text and vectors only; KV is computed when a chunk is first used
    #[arg(long)]
    no_kv: bool,
    /// Show what would be done, and the size of the KV; loads no weights and writes nothing
    #[arg(long, conflicts_with = "prune")]
    dry_run: bool,
    /// Remove documents from the data directory that are no longer under the given paths
    #[arg(long, conflicts_with = "limit")]
    prune: bool,
    /// Stop after this many documents
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    progress: ProgressKind,
    /// Send the documents to a running server instead of opening the data directory
    #[arg(long, value_name = "URL", value_parser = server_url,
          conflicts_with_all = ["dry_run", "prune", "neighbours"])]
    addr: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs the subcommand.
///
/// # Errors
/// If the runtime cannot start or progress cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    telemetry::init(args.common.log_format);
    if let Some(addr) = &args.addr {
        let sending = remote::run(addr, &args.paths, args.limit, args.no_kv);
        return Ok(exit_code(&multi_threaded()?.block_on(sending)?));
    }
    let config = match Config::load(&args.common) {
        Ok(config) => config,
        Err(error) => return Ok(refused(&error, &args)),
    };
    if args.dry_run {
        return match dry_run::run(&config, &args.paths, args.limit) {
            Ok(ending) => Ok(exit_code(&ending)),
            Err(error) => Ok(refused(&error, &args)),
        };
    }
    let components = match Components::open(config, OpenMode::Ingest) {
        Ok(components) => components,
        Err(error) => return Ok(refused(&error, &args)),
    };
    let runtime = multi_threaded()?;
    let ending = runtime.block_on(work(&args, &components))?;
    // The reader may be waiting for a file system that does not respond; its result is no longer needed.
    runtime.shutdown_background();
    Ok(exit_code(&ending))
}

async fn work(args: &Args, components: &Components) -> anyhow::Result<Ending> {
    log_kv_size(components);
    let ingestor = Ingestor::new(components);
    let total_bytes = || corpus::total_bytes(&args.paths);
    let progress = Progress::start(args.progress, ingestor.counters(), total_bytes);
    let failures = failures::FailureLog::new(&components.config.data)?;
    let limits = &components.config.limits;
    let documents = corpus::read(&args.paths, limits.max_document_bytes, args.limit);
    let options = IngestOptions { no_kv: args.no_kv };
    let mut job = Job::new(&ingestor, &components.store, options, progress, failures);
    let interrupt = job::interrupt();
    let mut ending = job.run(documents, &interrupt).await?;
    match (args.prune, ending) {
        (true, Ending::Done) => ending = job.prune().await?,
        (true, _) => eprintln!("ragweave: nothing was pruned, because not every document was read"),
        (false, _) => {}
    }
    // Comes last: a pruned document must not become a neighbour.
    if matches!(ending, Ending::Done | Ending::SomeFailed) {
        ending = job.condition(&interrupt).await?;
    }
    job.finish()?;
    Ok(ending)
}

/// Logs what the KV of this run will take before any is computed.
fn log_kv_size(components: &Components) {
    let (config, identity) = (&components.config, &components.engine.model().identity);
    let bytes = sizing::bytes_per_token(identity, config.ingest.chunk_tokens);
    let free = sizing::Free::at(&config.data);
    if let (Some(bytes), Ok(free)) = (bytes, free) {
        tracing::info!(
            kv_dtype = %identity.kv_dtype,
            "KV takes about {bytes} bytes per token on disk, and {} are free; --dry-run counts what documents need",
            DecimalBytes(free.bytes)
        );
    }
}

/// Prints why the ingest cannot begin, and the command to use if a server holds the directory.
fn refused(error: &ServerError, args: &Args) -> ExitCode {
    eprintln!("ragweave: {error}");
    if matches!(error, ServerError::Locked { .. }) {
        let paths: Vec<String> = args.paths.iter().map(|path| quoted(path)).collect();
        eprintln!(
            "  ragweave ingest {} --addr {DEFAULT_ADDR}",
            paths.join(" ")
        );
    }
    ExitCode::from(error.exit_code())
}
