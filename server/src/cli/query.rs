//! `ragweave query "..."`: asks a running server and streams its answer, then shows where the answer came from and
//! where the time went. `--compare` asks with each mode in turn and shows the times side by side.

use std::process::ExitCode;

mod compare;
mod options;
mod show;

pub(super) use options::{SearchArgs, ServerArgs};
pub(super) use show::{print_sources, source_json};

use options::AskArgs;

/// Arguments of `ragweave query`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The question
    question: String,
    /// Ask with full prefill, plain reuse, blend and auto in turn, and compare their times
    #[arg(long)]
    compare: bool,
    /// With --compare: measured runs of each mode, after one that warms up
    #[arg(long, value_name = "N", default_value_t = 5, requires = "compare",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs the subcommand.
///
/// # Errors
/// The server cannot be reached, refuses, or breaks off.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    super::block_on(async {
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
            crate::cli::write_out(format_args!("{text}"));
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
