//! The crate that connects proto, store, engine and retriever: it plans prompts, moves KV between store and engine,
//! ingests documents and serves gRPC.
//!
//! Begin with [`pipeline`], which shows the course of a request on one screen. The modules of the first group answer
//! and ingest, independent of any wire format; those of the second are the network and the command line. On the
//! server's side only `grpc` uses the wire types.

mod blocking;
pub mod components;
pub mod config;
pub mod controller;
pub mod device;
pub mod embedder;
mod environment;
pub mod error;
pub mod fidelity;
pub mod fingerprint;
pub mod fit;
pub mod ingest;
pub mod interval;
pub mod mode_choice;
pub mod notes;
pub mod pipeline;
pub mod problem;
pub mod prompt;
pub mod search_index;
pub mod service;
pub mod sizing;
pub mod sources;
mod store_identity;
pub mod tier;
mod tuned;
pub mod verify;

pub mod cli;
pub mod client;
pub mod grpc;
pub mod run;
pub mod telemetry;
