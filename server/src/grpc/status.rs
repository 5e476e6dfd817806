//! The only mapping from problems to gRPC: the code of each kind, and the google.rpc details.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::short::{MAX_MESSAGE_BYTES, MAX_VALUE_BYTES, shortened};
use crate::problem::{Problem, ProblemKind};

/// Domain of every `ErrorInfo`.
pub const DOMAIN: &str = "ragweave.v1";

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let code = code(problem.kind);
        status(problem, code)
    }
}

fn code(kind: ProblemKind) -> Code {
    match kind {
        ProblemKind::InvalidArgument => Code::InvalidArgument,
        ProblemKind::MessageTooLarge => Code::OutOfRange,
        ProblemKind::NotFound => Code::NotFound,
        ProblemKind::FailedPrecondition => Code::FailedPrecondition,
        ProblemKind::Conflict => Code::Aborted,
        ProblemKind::Overloaded | ProblemKind::OutOfSpace | ProblemKind::ResponseTooLarge => {
            Code::ResourceExhausted
        }
        ProblemKind::DeadlineExceeded => Code::DeadlineExceeded,
        ProblemKind::Cancelled => Code::Cancelled,
        ProblemKind::Unavailable => Code::Unavailable,
        ProblemKind::Internal => Code::Internal,
    }
}

/// The problem under a code that the transport chose.
pub(super) fn status(problem: Problem, code: Code) -> Status {
    let message = shortened(problem.message, MAX_MESSAGE_BYTES);
    let metadata: HashMap<String, String> = problem
        .metadata
        .into_iter()
        .map(|(key, value)| (key.to_owned(), shortened(value, MAX_VALUE_BYTES)))
        .collect();
    let mut details = ErrorDetails::with_error_info(problem.reason, DOMAIN, metadata);
    if let Some(field) = problem.field {
        details.add_bad_request_violation(field, message.clone());
    }
    if let Some(delay) = problem.retry_after {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(code, message, details)
}

#[cfg(test)]
mod tests {
    use ragweave_engine::EngineError;

    use super::*;
    use crate::pipeline::AnswerError;
    use crate::problem::QUEUE_RETRY_DELAY;

    #[test]
    fn a_request_too_large_for_the_device_is_not_reported_as_a_bug() {
        let status = Status::from(Problem::from(EngineError::DeviceMemory));
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "GPU_OUT_OF_MEMORY");
        assert!(
            details.retry_info().is_none(),
            "the same request would fail again"
        );
    }

    #[test]
    fn a_full_queue_says_so_and_when_to_come_back() {
        let status = Status::from(Problem::from(EngineError::QueueFull { limit: 3 }));
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
        let status = Status::from(Problem::from(AnswerError::from(error)));
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
        let status = Status::from(Problem::document_not_found(&id));
        let encoded = 3 * status.message().len() + status.details().len().div_ceil(3) * 4;
        assert!(encoded < 8 << 10, "{encoded}");
        assert!(status.message().ends_with('…'));
        let named = Status::from(Problem::invalid("a.b", "x".repeat(1 << 20)));
        let details = named.get_error_details();
        assert_eq!(
            details.bad_request().unwrap().field_violations[0].field,
            "a.b"
        );
        assert!(named.details().len() < 4096);
    }
}
