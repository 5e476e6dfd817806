//! The whole path over the network: an in-process server on a free port, the tiny Qwen3 of the fixtures, the lexical
//! embedder, and the generated client.

mod answers;
mod documents;
mod limits;
mod process;
mod site;
