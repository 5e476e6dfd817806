//! `ragweave serve`: answers over gRPC until SIGTERM or Ctrl-C, then drains.
//!
//! Exit codes: 0 stopped by a signal, 1 the engine or the socket failed, 2 the configuration or the store does not fit.

use std::io;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use ragweave_engine::Ratio;

use super::runtime::multi_threaded;
use super::signals::StopSignals;
use crate::components::{Components, OpenMode};
use crate::config::{CommonArgs, Config, listen_address};
use crate::run;
use crate::service::Service;
use crate::telemetry;

/// Time for tasks that still use the store after the server has ended.
const RUNTIME_STOP_LIMIT: Duration = Duration::from_secs(2);

/// Arguments of `ragweave serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one [env: RAGWEAVE_LISTEN]
    #[arg(long, value_name = "IP:PORT", value_parser = listen_address)]
    listen: Option<SocketAddr>,
    /// Share of the fused requests, 0 to 1, to compare with a full prefill in the background
    /// [env: RAGWEAVE_TELEMETRY_SHADOW_FULL]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    shadow_full: Option<f64>,
    /// How a prompt's KV is made if the request does not specify it: full, reuse, blend or auto [env:
    /// RAGWEAVE_FUSION_MODE]
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// Least share of the non-exact context tokens, 0 to 1, that auto recomputes [env: RAGWEAVE_FUSION_MIN_RATIO]
    #[arg(long, value_name = "R")]
    min_ratio: Option<Ratio>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs the subcommand.
///
/// # Errors
/// The address cannot be used, the engine failed permanently, or the transport failed.
pub fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    telemetry::init(args.common.log_format);
    args.common
        .settings
        .extend(args.listen.map(|listen| format!("listen={listen}")));
    let flags = [
        args.mode.map(|mode| format!("fusion.mode={mode}")),
        args.min_ratio
            .map(|ratio| format!("fusion.min_ratio={ratio}")),
        args.shadow_full
            .map(|share| format!("telemetry.shadow_full={share}")),
    ];
    args.common.settings.extend(flags.into_iter().flatten());
    let config = match Config::load(&args.common) {
        Ok(config) => config,
        Err(error) => return Ok(refused(&error)),
    };
    // Before the model is loaded, so that a port in use is reported at once.
    let listener = bind(config.listen)?;
    let components = match Components::open(config, OpenMode::Serve) {
        Ok(components) => components,
        Err(error) => return Ok(refused(&error)),
    };
    let runtime = multi_threaded()?;
    let keeper = components.keep_graph();
    let keeper = keeper.context("start the thread of the search graph")?;
    let served = runtime.block_on(serve(listener, &components));
    keeper.finish();
    runtime.shutdown_timeout(RUNTIME_STOP_LIMIT);
    served.map(|()| ExitCode::SUCCESS)
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok();
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("`{text}` is not a number between 0 and 1"))
}

async fn serve(listener: TcpListener, components: &Components) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut signals = StopSignals::listen()?;
    let shutdown = async {
        signals.next().await;
        tracing::info!("stopping: running requests may finish, new ones are refused");
    };
    announce(&listener, components)?;
    run::run(listener, Service::new(components), shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}

/// One line on standard output, for people and for scripts that wait for it.
fn announce(listener: &tokio::net::TcpListener, components: &Components) -> anyhow::Result<()> {
    let stats = components
        .store
        .stats()
        .context("read the store's figures")?;
    let announced = writeln!(
        std::io::stdout(),
        "listening on http://{} ({} on {}; {} documents, {} chunks)",
        listener.local_addr()?,
        components.engine.model().name,
        components.config.device,
        stats.documents,
        stats.chunks,
    );
    if let Err(error) = announced {
        tracing::warn!(%error, "standard output is closed"); // the server keeps serving
    }
    if stats.chunks == 0 {
        tracing::warn!("the corpus is empty; add documents with `ragweave ingest PATH --addr URL`");
    }
    Ok(())
}

fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("{listen} is in use by another process; stop it, or choose a free one: --listen 127.0.0.1:0")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow!("no permission to listen on {listen}; choose a port above 1023 with --listen")
        }
        _ => anyhow!("cannot listen on {listen}: {error}"),
    })
}

fn refused(error: &crate::error::ServerError) -> ExitCode {
    eprintln!("ragweave: {error}");
    ExitCode::from(error.exit_code())
}
