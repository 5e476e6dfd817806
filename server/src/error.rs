//! Why a component could not be opened, and the exit code for each reason.

use std::io;
use std::path::PathBuf;

use ragweave_engine::EngineError;
use ragweave_retriever::{OpenEmbedderError, RetrieverError};
use ragweave_store::StoreError;

use crate::config::ConfigError;
use crate::prompt::PromptError;

/// Why `serve`, `ingest` or another command cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "data directory {} does not match this configuration: {differences}. It holds {found}, this configuration \
         makes {expected}; use the settings it was made with, another --data directory, or --allow-recompute to \
         serve it with every KV lookup a miss",
        data.display()
    )]
    ForeignStore {
        data: PathBuf,
        differences: String,
        found: String,
        expected: String,
    },
    #[error(
        "data directory {} is in use by another ragweave process; stop it, or send documents through the running \
         server with --addr",
        path.display()
    )]
    Locked { path: PathBuf },
    #[error(
        "{} is not a ragweave data directory; name the right one with --data, or create one with `ragweave ingest`",
        path.display()
    )]
    NotAStore { path: PathBuf },
    #[error(
        "model {} has no tokenizer, so it cannot read text; copy tokenizer.json into the model directory (beside a GGUF \
         file)",
        model.display()
    )]
    NoTokenizer { model: PathBuf },
    #[error(
        "ingest.chunk_tokens is {chunk_tokens}, but the model's context of {context} tokens has room for at most \
         {room} after the prompt's prefix; pass --chunk-tokens {room} or less"
    )]
    ChunkTooLong {
        chunk_tokens: usize,
        context: usize,
        room: usize,
    },
    #[error(
        "ingest.chunk_tokens is {chunk_tokens}, but the prompt's wrapper around each chunk alone takes {wrapper} \
         tokens; raise --chunk-tokens"
    )]
    ChunkTooShort { chunk_tokens: usize, wrapper: usize },
    #[error(
        "the prompt takes {prefix} tokens before the first passage and {question} around a question, and the context of \
         {context} tokens has no room for more; shorten `system` or the strings of [prompt], or raise \
         limits.max_model_len"
    )]
    NoRoom {
        prefix: usize,
        question: usize,
        context: usize,
    },
    #[error("splitter: {message}")]
    Splitter { message: String },
    #[error(transparent)]
    Embedder(#[from] OpenEmbedderError),
    #[error("index: {0}")]
    Index(#[from] RetrieverError),
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        source: io::Error,
    },
}

impl ServerError {
    /// 2 if the command line, the configuration or the choice of directory is at fault, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::ForeignStore { .. }
            | Self::NotAStore { .. }
            | Self::NoTokenizer { .. }
            | Self::Embedder(_)
            | Self::ChunkTooLong { .. }
            | Self::ChunkTooShort { .. }
            | Self::NoRoom { .. } => 2,
            Self::Engine(_)
            | Self::Prompt(_)
            | Self::Store(_)
            | Self::Locked { .. }
            | Self::Splitter { .. }
            | Self::Index(_)
            | Self::Io { .. } => 1,
        }
    }
}
