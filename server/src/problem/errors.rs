//! Maps every error to the problem that a client gets. The matches are exhaustive, so a new error variant must be
//! mapped.

use ragweave_engine::EngineError;
use ragweave_retriever::RetrieverError;
use ragweave_store::StoreError;

use super::{Problem, ProblemKind};
use crate::blocking::Panicked;
use crate::ingest::IngestError;
use crate::pipeline::AnswerError;
use crate::prompt::PromptError;

impl From<Panicked> for Problem {
    fn from(panicked: Panicked) -> Self {
        Self::internal(panicked)
    }
}

impl From<AnswerError> for Problem {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Engine(error) => error.into(),
            AnswerError::Store(error) => error.into(),
            AnswerError::Retriever(error) => error.into(),
            AnswerError::Prompt(error) => error.into(),
            AnswerError::InvalidField { field, message } => Self::invalid(field, message),
            AnswerError::ChunkNotFound { ref id } => {
                Self::new(ProblemKind::NotFound, "CHUNK_NOT_FOUND", &error).with("chunk_id", id)
            }
            AnswerError::SourcesTooLarge { bytes, limit } => {
                Self::response_too_large(bytes, limit, "ask for fewer chunks, or")
            }
            AnswerError::CorpusEmpty => {
                Self::new(ProblemKind::FailedPrecondition, "CORPUS_EMPTY", error)
            }
            AnswerError::CallerGone => Self::new(ProblemKind::Cancelled, "CANCELLED", error),
            AnswerError::ReaderTooSlow => {
                Self::new(ProblemKind::DeadlineExceeded, "DEADLINE_EXCEEDED", error)
            }
            AnswerError::ShuttingDown => Self::shutting_down(),
            AnswerError::Internal { message } => Self::internal(message),
        }
    }
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::BadId { .. } => Self::invalid("header.id", error),
            IngestError::Metadata(_) => Self::invalid("header.metadata", error),
            IngestError::Empty | IngestError::TooLarge { .. } => Self::invalid("text", error),
            IngestError::Retriever(error) => error.into(),
            IngestError::Prompt(error) => error.into(),
            IngestError::Engine(error) => error.into(),
            IngestError::Store(error) => error.into(),
            IngestError::EngineBusy { .. } | IngestError::TooSlow { .. } => {
                Self::new(ProblemKind::DeadlineExceeded, "DEADLINE_EXCEEDED", error)
            }
            IngestError::ChangedMeanwhile => {
                Self::new(ProblemKind::Conflict, "DOCUMENT_CHANGED", error)
            }
            IngestError::ForeignStore => {
                Self::new(ProblemKind::FailedPrecondition, "STORE_READ_ONLY", error)
            }
            IngestError::Panicked { message } => Self::internal(message),
        }
    }
}

impl From<PromptError> for Problem {
    fn from(error: PromptError) -> Self {
        match error {
            PromptError::Engine(error) => error.into(),
            PromptError::NoSystemPlace => Self::invalid("system", error),
            PromptError::Uncuttable { .. }
            | PromptError::NoRow { .. }
            | PromptError::NoTokenizer { .. } => Self::internal(error),
        }
    }
}

impl From<RetrieverError> for Problem {
    fn from(error: RetrieverError) -> Self {
        match error {
            RetrieverError::BlankText => Self::invalid("query", error),
            RetrieverError::EmbedderUnavailable { .. } => Self::embedder(
                "EMBEDDER_UNAVAILABLE",
                error,
                "the embedder does not answer; try again later",
            ),
            RetrieverError::BadEmbedderAnswer { .. }
            | RetrieverError::WrongKind { .. }
            | RetrieverError::WrongDimension { .. } => Self::embedder(
                "EMBEDDER_BAD_ANSWER",
                error,
                "the embedder's answer cannot be used",
            ),
            RetrieverError::ChunkBudgetTooSmall { .. }
            | RetrieverError::Tokenizer { .. }
            | RetrieverError::CharacterTooLong { .. }
            | RetrieverError::BadEmbedding { .. }
            | RetrieverError::DamagedBytes { .. }
            | RetrieverError::UnsupportedVersion { .. }
            | RetrieverError::DuplicateChunk { .. }
            | RetrieverError::OtherEmbedder
            | RetrieverError::IndexFull { .. } => Self::internal(error),
        }
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::PromptTooLong { tokens, limit } => {
                let problem = Self::new(ProblemKind::InvalidArgument, "PROMPT_TOO_LONG", &error);
                problem.with("tokens", tokens).with("limit", limit)
            }
            EngineError::InvalidRequest { field, message } => {
                Self::invalid(request_path(field), message)
            }
            EngineError::InvalidSampling { field, message } => {
                Self::invalid(sampling_path(field), message)
            }
            EngineError::QueueFull { limit } => Self::queue_full(limit),
            EngineError::Unavailable { .. } => {
                Self::new(ProblemKind::Unavailable, "ENGINE_UNAVAILABLE", error)
            }
            EngineError::DeadlineExceeded { .. } => {
                Self::new(ProblemKind::DeadlineExceeded, "DEADLINE_EXCEEDED", error)
            }
            EngineError::Cancelled => Self::new(ProblemKind::Cancelled, "CANCELLED", error),
            EngineError::DeviceMemory => {
                Self::new(ProblemKind::OutOfSpace, "GPU_OUT_OF_MEMORY", error)
            }
            EngineError::UnsupportedModel { .. }
            | EngineError::ModelFile { .. }
            | EngineError::Tokenizer { .. }
            | EngineError::Template { .. }
            | EngineError::BadLogits { .. }
            | EngineError::Device { .. } => Self::internal(error),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull { .. } => Self::new(ProblemKind::OutOfSpace, "DISK_FULL", error),
            StoreError::ReadOnly { .. } => {
                Self::new(ProblemKind::FailedPrecondition, "STORE_READ_ONLY", error)
            }
            StoreError::InvalidDocument { .. } => Self::invalid("header", error),
            StoreError::Locked { .. }
            | StoreError::NotAStore { .. }
            | StoreError::ForeignIdentity { .. }
            | StoreError::UnsupportedVersion { .. }
            | StoreError::UnsupportedRequirement { .. }
            | StoreError::Corrupt { .. }
            | StoreError::InvalidBlob { .. }
            | StoreError::Metadata { .. }
            | StoreError::Io { .. } => Self::internal(error),
        }
    }
}

/// The API path of a request field that the engine names.
fn request_path(field: &'static str) -> String {
    match field {
        "selection" => "fusion.selection".to_owned(),
        "question" => "query".to_owned(),
        other => other.to_owned(),
    }
}

/// The API path of a sampling parameter that the engine names.
fn sampling_path(field: &'static str) -> String {
    let message = match field {
        "max_tokens" | "stop" | "stop_token_ids" | "ignore_eos" => "stopping",
        "logprobs" => "output",
        _ => "sampling",
    };
    format!("{message}.{field}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_too_large_for_the_device_is_not_reported_as_a_bug() {
        let problem = Problem::from(EngineError::DeviceMemory);
        assert_eq!(problem.kind, ProblemKind::OutOfSpace);
        assert_eq!(problem.reason, "GPU_OUT_OF_MEMORY");
        assert!(problem.message.contains("fewer or shorter chunks"));
        assert_eq!(
            problem.retry_after, None,
            "the same request would fail again"
        );
    }

    #[test]
    fn internal_errors_keep_their_details_to_the_log() {
        let error = AnswerError::internal("secret path");
        assert!(!Problem::from(error).message.contains("secret"));
    }
}
