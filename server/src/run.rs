//! The lifetime of the server: serve on the caller's socket until the caller's stop signal, then drain. Every front end
//! shares this sequence; what is specific to one front end is in its own folder.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use ragweave_engine::EngineHealth;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::grpc::{self, GrpcError, Health};
use crate::service::{Readiness, Service};

/// Time after the last call has ended for its last bytes to be sent, and for the status of calls that were cut off.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Why a server ended other than by its stop signal.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(
        "the engine failed twice and cannot be reloaded; see the log, then start the server again"
    )]
    EngineDead,
    #[error(transparent)]
    Grpc(#[from] GrpcError),
}

/// Serves on `listener` until `shutdown` resolves, then refuses new calls, lets running ones finish within
/// `limits.drain`, and returns.
///
/// # Errors
/// [`RunError`]. A stop after `shutdown` is `Ok`, even if calls had to be cut off.
pub async fn run(
    listener: TcpListener,
    service: Service,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let engine = service.components().engine.health();
    let closing = CancellationToken::new();
    let (health, serving) = grpc::serve(listener, &service, closing.clone())?;
    let health_now = *engine.borrow();
    health.report(health_now.into()).await;
    let mut serving = pin!(serving);

    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = follow(engine, &health) => return Err(RunError::EngineDead),
        () = shutdown => {}
    }
    health.report(Readiness::NotReady).await;
    service.drain();
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = finish(&service) => {}
    }
    // Not earlier: a closing connection drops new calls without a reason, whereas the service refuses them with a
    // status that gives one.
    closing.cancel();
    // A health watcher or an idle connection may keep the server from ending by itself.
    timeout(CLOSE_LIMIT, serving)
        .await
        .unwrap_or(Ok(()))
        .map_err(RunError::from)
}

/// Waits for running calls, at most for the drain limit, then ends them, and writes what was learned from them.
async fn finish(service: &Service) {
    let limit = service.components().config.limits.drain;
    if timeout(limit, service.idle()).await.is_err() {
        tracing::warn!(
            ?limit,
            "calls still running after the drain limit are cut off"
        );
        service.stop();
    }
    service.write_rates().await;
}

/// Passes the engine's health on. Resolves when the engine is dead.
async fn follow(mut engine: watch::Receiver<EngineHealth>, health: &Health) {
    loop {
        let now = *engine.borrow_and_update();
        health.report(now.into()).await;
        if now == EngineHealth::Dead || engine.changed().await.is_err() {
            return;
        }
    }
}
