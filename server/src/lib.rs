//! The one crate that sees proto, store, engine and retriever: it plans prompts, moves KV between store and engine,
//! ingests documents and speaks gRPC. `pipeline` is a request's life; `components` opens what it needs.
//! Modules are listed in reading order.

pub mod pipeline;
pub mod prompt;
pub mod sources;
pub mod ingest;
pub mod components;
pub mod config;
pub mod device;
pub mod error;

pub mod convert;
pub mod status;
pub mod service;
pub mod run;
pub mod client;
pub mod telemetry;
pub mod cli;
