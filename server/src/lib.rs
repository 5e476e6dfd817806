//! The one crate that sees proto, store, engine and retriever: it plans prompts, moves KV between
//! store and engine, ingests documents and speaks gRPC.
//!
//! Begin with [`pipeline`], a request's life on one screen. The first group below is what answers
//! and ingests and knows no wire format; the second is the network and the command line.

mod blocking;
pub mod components;
pub mod config;
pub mod controller;
pub mod device;
pub mod error;
pub mod fidelity;
pub mod fit;
pub mod ingest;
pub mod interval;
pub mod notes;
pub mod pipeline;
pub mod prompt;
pub mod search_index;
pub mod sources;
pub mod tier;
mod tuned;
pub mod verify;

pub mod cli;
pub mod client;
pub mod convert;
pub mod run;
pub mod service;
pub mod status;
pub mod telemetry;
