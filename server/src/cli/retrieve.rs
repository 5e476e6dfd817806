//! `ragweave retrieve "..."`: which chunks a running server finds for a question.

use std::process::ExitCode;

use ragweave_proto::v1;

use super::query::{self, SearchArgs, ServerArgs};
use super::runtime::block_on;

/// Arguments of `ragweave retrieve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The question
    question: String,
    /// One JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    search: SearchArgs,
}

/// Runs the subcommand.
///
/// # Errors
/// The server cannot be reached or refuses.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let request = v1::RetrieveRequest {
        query: args.question,
        retrieval: Some(args.search.options()),
    };
    let sources = block_on(async {
        let mut client = args.server.connect().await?;
        Ok(client.retrieve(request).await?)
    })?;
    if args.json {
        let sources: Vec<_> = sources.iter().map(query::source_json).collect();
        say!("{}", serde_json::to_string_pretty(&sources)?);
    } else if sources.is_empty() {
        say!("nothing found");
    } else {
        query::print_sources(&sources);
    }
    Ok(ExitCode::SUCCESS)
}
