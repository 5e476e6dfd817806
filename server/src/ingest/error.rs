//! Why a document was not ingested, and whether the next one would fail too.

use std::time::Duration;

use ragweave_engine::EngineError;
use ragweave_retriever::{BadDocumentId, RetrieverError};
use ragweave_store::StoreError;

use super::metadata::BadMetadata;
use crate::blocking::Panicked;
use crate::prompt::PromptError;

/// A document that was not ingested. The store holds what it held before.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("the document's id {why}; choose another")]
    BadId { why: BadDocumentId },
    #[error(transparent)]
    Metadata(#[from] BadMetadata),
    #[error("the document is empty; nothing can be retrieved from it")]
    Empty,
    #[error(
        "the document has {bytes} bytes, more than limits.max_document_bytes ({limit}); split it or raise the limit"
    )]
    TooLarge { bytes: usize, limit: usize },
    #[error("split or embed: {0}")]
    Retriever(#[from] RetrieverError),
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data directory was opened with `--allow-recompute` and belongs to another model.
    #[error("documents cannot be added to a store of another model; use another --data directory")]
    ForeignStore,
    /// Requests have priority, and they left the engine no time.
    #[error(
        "the engine had no time for a chunk's KV within limits.max_engine_wait_s ({} s); send the document again when \
         fewer requests are running, or with skip_kv", limit.as_secs()
    )]
    EngineBusy { limit: Duration },
    #[error(
        "the engine had no time for all of its KV within limits.max_document_s ({} s); send it again in smaller documents, or \
         with skip_kv", limit.as_secs()
    )]
    TooSlow { limit: Duration },
    /// It is not known which version is the newer one.
    #[error(
        "the document was replaced or deleted by another call while this one was computing its KV; send it again if this \
         version is wanted"
    )]
    ChangedMeanwhile,
    #[error("a worker of the ingest panicked: {message}; this is a bug")]
    Panicked { message: String },
}

impl IngestError {
    /// Whether the next document would fail with the same error, so that a run should stop.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Retriever(RetrieverError::EmbedderUnavailable { .. }) => true,
            Self::BadId { .. }
            | Self::Metadata(_)
            | Self::Empty
            | Self::TooLarge { .. }
            | Self::Retriever(_)
            | Self::Prompt(_)
            | Self::EngineBusy { .. }
            | Self::TooSlow { .. }
            | Self::ChangedMeanwhile => false,
            Self::Engine(error) => !matches!(
                error,
                EngineError::PromptTooLong { .. }
                    | EngineError::InvalidRequest { .. }
                    | EngineError::DeviceMemory
                    | EngineError::QueueFull { .. }
            ),
            Self::Store(error) => !matches!(
                error,
                StoreError::InvalidDocument { .. } | StoreError::InvalidBlob { .. }
            ),
            Self::ForeignStore | Self::Panicked { .. } => true,
        }
    }
}

impl From<Panicked> for IngestError {
    fn from(panicked: Panicked) -> Self {
        Self::Panicked {
            message: panicked.to_string(),
        }
    }
}
