//! Why a call failed, in terms that every front end translates: kind, stable reason, field at fault, and when to retry.
//! The reasons are documented in `ragweave/v1/rag_service.proto`.

use std::time::Duration;

mod errors;

/// How long a client should wait before it retries after a full queue.
pub const QUEUE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// A failed call as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub kind: ProblemKind,
    /// Stable; clients branch on it.
    pub reason: &'static str,
    pub message: String,
    /// Path of the request field at fault.
    pub field: Option<String>,
    pub metadata: Vec<(&'static str, String)>,
    pub retry_after: Option<Duration>,
}

/// Kinds of problems, by what the client can do. Each front end maps them to its own codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// Correct the request.
    InvalidArgument,
    /// Send it in smaller parts.
    MessageTooLarge,
    /// Ask for less.
    ResponseTooLarge,
    /// Name something that exists.
    NotFound,
    /// Change the state of the server first: add documents, or free space in the store.
    FailedPrecondition,
    /// Another call changed the same thing first: look at the new state, and retry if it still makes sense.
    Conflict,
    /// Retry in a moment.
    Overloaded,
    /// The machine has no room for it: disk or device memory.
    OutOfSpace,
    /// Retry with a later deadline.
    DeadlineExceeded,
    /// Nothing: the client itself gave up.
    Cancelled,
    /// Ask another server.
    Unavailable,
    /// Nothing: a bug in ragweave, or a failing machine.
    Internal,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, reason: &'static str, message: impl ToString) -> Self {
        let message = message.to_string();
        Self {
            kind,
            reason,
            message,
            field: None,
            metadata: Vec::new(),
            retry_after: None,
        }
    }

    pub(crate) fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    /// The same problem with one more metadata entry.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.message.push_str("; ");
        self.message.push_str(more);
        self
    }

    /// A request field that cannot be used. `field` is its path in the API.
    pub fn invalid(field: impl Into<String>, message: impl ToString) -> Self {
        let field = field.into();
        let message = format!("{field}: {}", message.to_string());
        let problem = Self::new(ProblemKind::InvalidArgument, "INVALID_FIELD", message);
        let mut problem = problem.with("field", &field);
        problem.field = Some(field);
        problem
    }

    /// More requests than the server accepts at once.
    pub fn queue_full(limit: usize) -> Self {
        let message =
            format!("{limit} requests are already running or waiting; try again in a moment");
        let problem =
            Self::new(ProblemKind::Overloaded, "QUEUE_FULL", message).with("limit", limit);
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
        Self::new(ProblemKind::ResponseTooLarge, "RESPONSE_TOO_LARGE", message)
            .with("bytes", bytes)
            .with("limit", limit)
            .with("setting", "limits.max_message_bytes")
    }

    /// A message in a stream is larger than the server accepts; `transport` is the transport's error with the sizes.
    pub fn message_too_large(transport: &str) -> Self {
        let message = format!(
            "{transport}; send text in smaller parts and less metadata, or raise limits.max_message_bytes on the server"
        );
        Self::new(ProblemKind::MessageTooLarge, "MESSAGE_TOO_LARGE", message)
            .with("setting", "limits.max_message_bytes")
    }

    /// A stream whose next message cannot be read, in the transport's own words.
    pub fn broken_stream(transport: &str) -> Self {
        Self::new(ProblemKind::Internal, "BROKEN_STREAM", transport)
    }

    /// Too many documents of one ingest call failed; `last` is the latest failure.
    pub fn too_many_failures(limit: usize, last: &str) -> Self {
        let message = format!(
            "more than {limit} documents of this call failed, the latest with: {last}; the other documents before it are \
             in the corpus; correct the input and send the rest"
        );
        let kind = ProblemKind::FailedPrecondition;
        Self::new(kind, "TOO_MANY_FAILURES", message).with("limit", limit)
    }

    /// A stream on which nothing has arrived for `limit`.
    pub fn idle_stream(limit: Duration) -> Self {
        let message = format!("nothing arrived on this stream for {} s", limit.as_secs());
        Self::new(ProblemKind::DeadlineExceeded, "DEADLINE_EXCEEDED", message)
    }

    /// A call that was not answered by its deadline.
    pub fn too_late(waited: Duration) -> Self {
        let message = format!(
            "not answered within its deadline, {:.1} s after it arrived; retry with a later one, at most \
             limits.max_deadline_s",
            waited.as_secs_f64()
        );
        Self::new(ProblemKind::DeadlineExceeded, "DEADLINE_EXCEEDED", message)
    }

    /// The server has been told to stop.
    pub fn shutting_down() -> Self {
        let message = "the server is shutting down; use another one";
        Self::new(ProblemKind::Unavailable, "SHUTTING_DOWN", message)
    }

    /// No document of this id.
    pub fn document_not_found(id: &str) -> Self {
        let message = format!("document {id:?} is not in the corpus");
        let problem = Self::new(ProblemKind::NotFound, "DOCUMENT_NOT_FOUND", message);
        problem.with("document_id", id)
    }

    /// The embedder cannot be used now. Its address and its words go to the log, not to the client.
    pub(crate) fn embedder(reason: &'static str, error: impl ToString, message: &str) -> Self {
        tracing::error!(error = error.to_string(), "the embedder failed");
        let message = format!("{message}; the server's log has the details");
        Self::new(ProblemKind::Unavailable, reason, message)
    }

    /// A bug in ragweave, or a failing machine. The details go to the log, not to the client.
    pub fn internal(error: impl ToString) -> Self {
        tracing::error!(error = error.to_string(), "request failed");
        let message = "internal error; the server's log has the details";
        Self::new(ProblemKind::Internal, "INTERNAL", message)
    }
}
