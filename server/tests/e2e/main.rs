//! The whole path over the network: an in-process server on a free port, the tiny Qwen3 of the fixtures, the lexical
//! embedder, and the generated client.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod answers;
mod auto;
mod concurrent;
mod documents;
mod embedders;
mod limits;
mod memory;
mod neighbours;
mod old_vectors;
mod process;
mod quality;
mod site;
mod sizes;
