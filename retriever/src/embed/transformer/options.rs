//! What a caller says about a sentence-transformers directory.

use std::path::PathBuf;

/// Where the work of one batch runs in parallel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parallelism {
    /// On the threads of the processor: each computes some of the texts.
    Threads,
    /// Inside the device, which gets all texts at once from the embedder's thread.
    Device,
}

/// Which directory, and what differs from its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransformerOptions {
    /// The sentence-transformers directory.
    pub dir: PathBuf,
    /// Put before every question, in place of the directory's own prompt.
    pub query_prompt: Option<String>,
    /// Put before every chunk of a document, in place of the directory's own prompt.
    pub document_prompt: Option<String>,
}
