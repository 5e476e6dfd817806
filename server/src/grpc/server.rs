//! The gRPC part of a running server: transport, reflection and the standard health service.

use std::future::Future;
use std::io;
use std::time::Duration;

use ragweave_proto::v1::rag_service_server::{RagServiceServer, SERVICE_NAME};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::rag_service::Rpc;
use crate::service::{Readiness, Service};

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most streams of one connection. The same number of resets may be pending, so that a client that cancels all its
/// streams at once is not taken for an attacker.
const MAX_STREAMS: u32 = 256;
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(3600);
const MAX_CONNECTION_AGE_GRACE: Duration = Duration::from_secs(300);

/// Why the gRPC server failed.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    #[error("the gRPC server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    #[error("the listening socket failed: {0}")]
    Socket(#[from] io::Error),
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// The answer to health checks.
pub(crate) struct Health(HealthReporter);

impl Health {
    /// Sets the service's status. The status of the empty service name stays SERVING as long as the process runs.
    pub(crate) async fn report(&self, readiness: Readiness) {
        let status = match readiness {
            Readiness::Ready => ServingStatus::Serving,
            Readiness::NotReady => ServingStatus::NotServing,
        };
        self.0.set_service_status(SERVICE_NAME, status).await;
    }
}

/// Serves gRPC on `listener` as long as the future is polled; once `closing` is cancelled, connections are asked to
/// close and the future ends with the last of them.
///
/// # Errors
/// [`GrpcError`].
pub(crate) fn serve(
    listener: TcpListener,
    service: &Service,
    closing: CancellationToken,
) -> Result<(Health, impl Future<Output = Result<(), GrpcError>> + use<>), GrpcError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    // Reflection would show strangers what can be called; on loopback there are none.
    let is_local = listener.local_addr()?.ip().is_loopback();
    let mut routes = Routes::new(health).add_service(limited(service.clone()));
    if is_local {
        // v1alpha for clients of before 2023, Python's among them.
        routes = routes
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
    }
    let router = transport().add_routes(routes);
    // Without this each small event waits for the client's delayed acknowledgement, 40 ms on Linux.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = router.serve_with_incoming_shutdown(incoming, closing.cancelled_owned());
    Ok((Health(reporter), async { Ok(serving.await?) }))
}

fn limited(service: Service) -> RagServiceServer<Rpc> {
    let max_bytes = service.components().config.limits.max_message_bytes;
    RagServiceServer::new(Rpc::new(service))
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
