//! `ragweave query "..."`: asks a running server and streams its answer, then shows where the answer came from and
//! where the time went. `--compare` asks with each mode in turn and shows the times side by side.

use std::process::ExitCode;

mod args;
mod compare;
mod options;
mod show;

pub(super) use options::{SearchArgs, ServerArgs};
pub(super) use show::{print_sources, source_json};

pub use args::Args;

use super::output::write_out;
use super::runtime::block_on;

/// Runs the subcommand.
///
/// # Errors
/// The server cannot be reached, refuses, or breaks off its answer.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    block_on(async {
        if args.compare {
            compare::run(&args).await
        } else {
            ask(&args).await
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(args: &Args) -> anyhow::Result<()> {
    let mut client = args.server.connect().await?;
    let request = args.ask.request(&args.question);
    let is_json = args.json;
    let reply = client.generate(request, args.server.timeout(), |text| {
        if !is_json {
            write_out(format_args!("{text}"));
        }
    });
    let reply = reply.await?;
    if args.json {
        say!(
            "{}",
            serde_json::to_string_pretty(&show::reply_json(&reply))?
        );
    } else {
        say!();
        show::print_reply(&reply);
    }
    Ok(())
}
