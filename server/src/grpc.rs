//! The gRPC front end, and the only folder on the server's side that uses tonic or the generated types: the transport
//! ([`server`]), `ragweave.v1.RagService` ([`rag_service`]), and the conversion between messages and the pipeline's
//! types.

mod answer;
pub(crate) mod convert;
mod deadline;
mod documents;
mod ingest;
mod rag_service;
mod sendable;
mod server;
mod short;
mod stats;
mod status;

pub(crate) use ingest::MAX_PART_BYTES;
pub use server::GrpcError;
pub(crate) use server::{Health, serve};
