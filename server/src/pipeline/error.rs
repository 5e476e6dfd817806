//! Why a query got no answer. [`crate::problem`] defines how each error is reported to clients.

use ragweave_engine::EngineError;
use ragweave_retriever::RetrieverError;
use ragweave_store::StoreError;

use crate::blocking::Panicked;
use crate::prompt::PromptError;

/// Why a query got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Retriever(#[from] RetrieverError),
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// A request field that the engine does not check itself. `field` is its path in the API.
    #[error("{field}: {message}")]
    InvalidField {
        field: &'static str,
        message: String,
    },
    /// The query names a chunk that is not in the corpus.
    #[error("chunk {id:?} is not in the corpus; GetDocument lists a document's chunk ids")]
    ChunkNotFound { id: String },
    /// The description of the answer's sources is larger than the caller accepts.
    #[error(
        "the sources of the answer take {bytes} bytes, more than {limit}; ask for fewer chunks"
    )]
    SourcesTooLarge { bytes: usize, limit: usize },
    /// There is nothing to search.
    #[error("the corpus is empty; add documents with `ragweave ingest` or IngestDocuments")]
    CorpusEmpty,
    /// The reader of the answer went away, or read nothing for too long.
    #[error("the caller stopped reading the answer")]
    CallerGone,
    /// The reader read the answer so slowly that the deadline passed.
    #[error("the deadline passed while the answer was being read")]
    ReaderTooSlow,
    /// The server's drain limit passed before the answer was complete.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// A bug in ragweave.
    #[error("internal error: {message}")]
    Internal { message: String },
}

impl AnswerError {
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::Internal {
            message: message.into(),
        }
    }

    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::InvalidField {
            field,
            message: message.into(),
        }
    }
}

impl From<Panicked> for AnswerError {
    fn from(panicked: Panicked) -> Self {
        Self::internal(panicked.to_string())
    }
}
