//! The only mapping from our errors to gRPC: code, stable reason, field, and when to try again.
//! The reasons are documented in `ragweave/v1/rag_service.proto`.

use std::collections::HashMap;
use std::time::Duration;

use ragweave_engine::EngineError;
use ragweave_retriever::RetrieverError;
use ragweave_store::StoreError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

mod short;

use crate::ingest::IngestError;
use crate::pipeline::AnswerError;
use crate::prompt::PromptError;
pub(crate) use short::shortened;
use short::{MAX_MESSAGE_BYTES, MAX_VALUE_BYTES};

/// Domain of every `ErrorInfo`.
pub const DOMAIN: &str = "ragweave.v1";
/// When a client that met a full queue should come back.
const QUEUE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// An error as a client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub code: Code,
    /// Stable; clients branch on it.
    pub reason: &'static str,
    pub message: String,
    /// Path of the request field at fault.
    pub field: Option<String>,
    pub metadata: Vec<(&'static str, String)>,
    pub retry_after: Option<Duration>,
}

impl Problem {
    fn new(code: Code, reason: &'static str, message: impl ToString) -> Self {
        let message = message.to_string();
        Self {
            code,
            reason,
            message,
            field: None,
            metadata: Vec::new(),
            retry_after: None,
        }
    }

    fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    /// A request field that cannot be used. `field` is its path in the API.
    pub fn invalid(field: impl Into<String>, message: impl ToString) -> Self {
        let field = field.into();
        let message = format!("{field}: {}", message.to_string());
        let mut problem =
            Self::new(Code::InvalidArgument, "INVALID_FIELD", message).with("field", &field);
        problem.field = Some(field);
        problem
    }

    /// More requests than the server takes at once.
    pub fn queue_full(limit: usize) -> Self {
        let message =
            format!("{limit} requests are running or waiting already; try again in a moment");
        let problem =
            Self::new(Code::ResourceExhausted, "QUEUE_FULL", message).with("limit", limit);
        Self {
            retry_after: Some(QUEUE_RETRY_DELAY),
            ..problem
        }
    }

    /// A response that no message can carry; `remedy` is what the client can do.
    pub fn response_too_large(bytes: usize, limit: usize, remedy: &str) -> Self {
        let message = format!(
            "the response has {bytes} bytes, more than limits.max_message_bytes ({limit}); {remedy} raise the limit \
             on the server"
        );
        Self::new(Code::ResourceExhausted, "RESPONSE_TOO_LARGE", message)
            .with("bytes", bytes)
            .with("limit", limit)
            .with("setting", "limits.max_message_bytes")
    }

    /// A message of a stream that is larger than the server takes; `transport` says how large.
    pub fn message_too_large(transport: &str) -> Self {
        let message = format!(
            "{transport}; send text in smaller parts and less metadata, or raise limits.max_message_bytes on the server"
        );
        Self::new(Code::OutOfRange, "MESSAGE_TOO_LARGE", message)
            .with("setting", "limits.max_message_bytes")
    }

    /// A stream whose next message cannot be read, with the transport's own words.
    pub fn broken_stream(code: Code, transport: &str) -> Self {
        Self::new(code, "BROKEN_STREAM", transport)
    }

    /// The same problem with more to say.
    pub fn and(mut self, more: &str) -> Self {
        self.message.push_str("; ");
        self.message.push_str(more);
        self
    }

    /// An ingest whose documents keep failing; `last` is the latest failure.
    pub fn too_many_failures(limit: usize, last: &str) -> Self {
        let message = format!(
            "more than {limit} documents of this call failed, the latest with: {last}; the others before it are in the \
             corpus, correct the input and send the rest"
        );
        Self::new(Code::FailedPrecondition, "TOO_MANY_FAILURES", message).with("limit", limit)
    }

    /// A stream on which nothing has come for `limit`.
    pub fn idle_stream(limit: Duration) -> Self {
        let message = format!("nothing came on this stream for {} s", limit.as_secs());
        Self::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message)
    }

    /// A call that was not answered by its deadline.
    pub fn too_late(waited: Duration) -> Self {
        let message = format!(
            "not answered within its deadline, {:.1} s after it came; ask again with a later one, at most \
             limits.max_deadline_s",
            waited.as_secs_f64()
        );
        Self::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message)
    }

    /// The server has been told to stop.
    pub fn shutting_down() -> Self {
        Self::new(
            Code::Unavailable,
            "SHUTTING_DOWN",
            "the server is shutting down; ask another one",
        )
    }

    /// No document of this id.
    pub fn document_not_found(id: &str) -> Self {
        let message = format!("document {id:?} is not in the corpus");
        Self::new(Code::NotFound, "DOCUMENT_NOT_FOUND", message).with("document_id", id)
    }

    /// A bug of ours, or a machine that fails. The client gets no details, the log does.
    pub fn internal(error: impl ToString) -> Self {
        tracing::error!(error = error.to_string(), "request failed");
        let message = "internal error; the server's log has the details";
        Self::new(Code::Internal, "INTERNAL", message)
    }

    /// The status with its google.rpc details, short enough for HTTP headers.
    pub fn into_status(self) -> Status {
        let message = shortened(self.message, MAX_MESSAGE_BYTES);
        let metadata: HashMap<String, String> = self
            .metadata
            .into_iter()
            .map(|(key, value)| (key.to_owned(), shortened(value, MAX_VALUE_BYTES)))
            .collect();
        let mut details = ErrorDetails::with_error_info(self.reason, DOMAIN, metadata);
        if let Some(field) = self.field {
            details.add_bad_request_violation(field, message.clone());
        }
        if let Some(delay) = self.retry_after {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(self.code, message, details)
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        problem.into_status()
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
                Self::new(Code::NotFound, "CHUNK_NOT_FOUND", &error).with("chunk_id", id)
            }
            AnswerError::SourcesTooLarge { bytes, limit } => {
                Self::response_too_large(bytes, limit, "ask for fewer chunks, or")
            }
            AnswerError::CorpusEmpty => Self::new(Code::FailedPrecondition, "CORPUS_EMPTY", error),
            AnswerError::CallerGone => Self::new(Code::Cancelled, "CANCELLED", error),
            AnswerError::ReaderTooSlow => {
                Self::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", error)
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
                Self::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", error)
            }
            IngestError::ChangedMeanwhile => Self::new(Code::Aborted, "DOCUMENT_CHANGED", error),
            IngestError::ForeignStore => {
                Self::new(Code::FailedPrecondition, "STORE_READ_ONLY", error)
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
            RetrieverError::ChunkBudgetTooSmall { .. }
            | RetrieverError::Tokenizer { .. }
            | RetrieverError::CharacterTooLong { .. }
            | RetrieverError::BadEmbedding { .. }
            | RetrieverError::DamagedBytes { .. }
            | RetrieverError::UnsupportedVersion { .. }
            | RetrieverError::WrongKind { .. }
            | RetrieverError::WrongDimension { .. }
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
                let problem = Self::new(Code::InvalidArgument, "PROMPT_TOO_LONG", &error);
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
                Self::new(Code::Unavailable, "ENGINE_UNAVAILABLE", error)
            }
            EngineError::DeadlineExceeded { .. } => {
                Self::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", error)
            }
            EngineError::Cancelled => Self::new(Code::Cancelled, "CANCELLED", error),
            EngineError::DeviceMemory => {
                Self::new(Code::ResourceExhausted, "GPU_OUT_OF_MEMORY", error)
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
            StoreError::DiskFull { .. } => Self::new(Code::ResourceExhausted, "DISK_FULL", error),
            StoreError::ReadOnly { .. } => {
                Self::new(Code::FailedPrecondition, "STORE_READ_ONLY", error)
            }
            StoreError::InvalidDocument { .. } => Self::invalid("header", error),
            StoreError::Locked { .. }
            | StoreError::NotAStore { .. }
            | StoreError::ForeignIdentity { .. }
            | StoreError::UnsupportedVersion { .. }
            | StoreError::Corrupt { .. }
            | StoreError::InvalidBlob { .. }
            | StoreError::Metadata { .. }
            | StoreError::Io { .. } => Self::internal(error),
        }
    }
}

/// Path in the API of a request field as the engine names it.
fn request_path(field: &'static str) -> String {
    match field {
        "selection" => "fusion.selection".to_owned(),
        "question" => "query".to_owned(),
        other => other.to_owned(),
    }
}

/// Path in the API of a sampling parameter as the engine names it.
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
    fn a_request_too_large_for_the_device_is_told_apart_from_a_bug() {
        let problem = Problem::from(EngineError::DeviceMemory);
        assert_eq!(problem.code, Code::ResourceExhausted);
        assert_eq!(problem.reason, "GPU_OUT_OF_MEMORY");
        assert!(problem.message.contains("fewer or shorter chunks"));
        assert_eq!(
            problem.retry_after, None,
            "the same request would fail again"
        );
    }

    #[test]
    fn a_full_queue_says_so_and_when_to_come_back() {
        let status = Problem::from(EngineError::QueueFull { limit: 3 }).into_status();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("QUEUE_FULL", DOMAIN)
        );
        assert_eq!(info.metadata["limit"], "3");
        assert_eq!(
            details.retry_info().unwrap().retry_delay,
            Some(QUEUE_RETRY_DELAY)
        );
    }

    #[test]
    fn a_field_is_named_by_its_path_in_the_api() {
        let error = EngineError::InvalidSampling {
            field: "temperature",
            message: "is NaN".into(),
        };
        let status = Problem::from(AnswerError::from(error)).into_status();
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(
            details.bad_request().unwrap().field_violations[0].field,
            "sampling.temperature"
        );
    }

    #[test]
    fn what_a_request_put_into_an_error_does_not_make_it_unreadable() {
        let id = "é".repeat(1 << 20);
        let status = Problem::document_not_found(&id).into_status();
        let encoded = 3 * status.message().len() + status.details().len().div_ceil(3) * 4;
        assert!(encoded < 8 << 10, "{encoded}");
        assert!(status.message().ends_with('…'));
        let named = Problem::invalid("a.b", "x".repeat(1 << 20)).into_status();
        let details = named.get_error_details();
        assert_eq!(
            details.bad_request().unwrap().field_violations[0].field,
            "a.b"
        );
        assert!(named.details().len() < 4096);
    }

    #[test]
    fn internal_errors_keep_their_details_to_the_log() {
        let error = AnswerError::internal("secret path");
        assert!(!Problem::from(error).message.contains("secret"));
    }
}
