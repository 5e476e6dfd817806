//! The server process's life: serve on the caller's socket until the caller's stop signal, then drain.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use ragweave_engine::EngineHealth;
use ragweave_proto::v1::rag_service_server::{RagServiceServer, SERVICE_NAME};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::service::Service;

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one connection; as many resets may be pending, so that a client that cancels all its streams at once is
/// not taken for an attacker.
const MAX_STREAMS: u32 = 256;
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(3600);
const MAX_CONNECTION_AGE_GRACE: Duration = Duration::from_secs(300);
/// After the last call has ended: for its last bytes to leave, and for calls that outlived the drain to be told.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Why a server ended other than by its stop signal.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(
        "the engine failed twice and cannot be reloaded; see the log, then start the server again"
    )]
    EngineDead,
    #[error("the gRPC server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    #[error("the listening socket failed: {0}")]
    Socket(#[from] io::Error),
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves on `listener` until `shutdown` resolves, then refuses new calls, lets running ones finish within
/// `limits.drain`, and returns.
///
/// # Errors
/// [`RunError`]; a stop after `shutdown`, also one that had to cut calls off, is `Ok`.
pub async fn run(
    listener: TcpListener,
    service: Service,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let engine = service.components().engine.health();
    let health_now = *engine.borrow();
    report(&reporter, health_now).await;

    // Reflection tells strangers what there is to call; on loopback there are none.
    let is_local = listener.local_addr()?.ip().is_loopback();
    let mut routes = Routes::new(health).add_service(limited(service.clone()));
    if is_local {
        // v1alpha for clients of before 2023, Python's among them.
        routes = routes
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
    }
    let closing = CancellationToken::new();
    let router = transport().add_routes(routes);
    // Without this each small event waits for the client's delayed acknowledgement, 40 ms on Linux.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let mut serving =
        pin!(router.serve_with_incoming_shutdown(incoming, closing.clone().cancelled_owned()));

    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = follow(engine, &reporter) => return Err(RunError::EngineDead),
        () = shutdown => {}
    }
    reporter
        .set_service_status(SERVICE_NAME, ServingStatus::NotServing)
        .await;
    service.drain();
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = finish(&service) => {}
    }
    // Only now: a connection told to go away cuts new calls off without a word, while the service
    // refuses them with a status that names the reason.
    closing.cancel();
    // A health watcher or an idle connection may keep the server from ending by itself.
    timeout(CLOSE_LIMIT, serving)
        .await
        .unwrap_or(Ok(()))
        .map_err(RunError::from)
}

/// Waits for running calls, but not longer than the drain limit; then ends them. What they taught is kept.
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

fn limited(service: Service) -> RagServiceServer<Service> {
    let max_bytes = service.components().config.limits.max_message_bytes;
    RagServiceServer::new(service)
        .max_decoding_message_size(max_bytes)
        .max_encoding_message_size(max_bytes)
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(ragweave_proto::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn transport() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_pending_accept_reset_streams(Some(MAX_STREAMS as usize))
        .concurrency_limit_per_connection(MAX_STREAMS as usize)
        .load_shed(true)
        .max_connection_age(MAX_CONNECTION_AGE)
        .max_connection_age_grace(MAX_CONNECTION_AGE_GRACE)
}

/// Passes the engine's health on to the health service. Resolves when the engine is dead.
async fn follow(mut engine: watch::Receiver<EngineHealth>, reporter: &HealthReporter) {
    loop {
        let health = *engine.borrow_and_update();
        report(reporter, health).await;
        if health == EngineHealth::Dead || engine.changed().await.is_err() {
            return;
        }
    }
}

/// The service's status is the engine's; the empty service name stays SERVING while the process lives.
async fn report(reporter: &HealthReporter, engine: EngineHealth) {
    let status = match engine {
        EngineHealth::Serving => ServingStatus::Serving,
        EngineHealth::Reloading | EngineHealth::Dead => ServingStatus::NotServing,
    };
    reporter.set_service_status(SERVICE_NAME, status).await;
}
