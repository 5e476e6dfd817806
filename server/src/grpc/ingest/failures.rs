//! The failed documents of one call: a list that always fits a response, whatever its ids and messages are.

use prost::Message as _;
use ragweave_proto::v1;

use crate::grpc::short::shortened;
use crate::problem::Problem;

/// Most failures listed in one response; one more ends the call.
const MAX_FAILURES: usize = 256;
/// Longest id; an id that the store accepts is never cut.
const MAX_ID_BYTES: usize = 1024;
/// Longest message.
const MAX_MESSAGE_BYTES: usize = 4096;
/// Bytes of each message that even the smallest response keeps.
const KEPT_MESSAGE_BYTES: usize = 128;
/// Bytes of a failure in the response in addition to its own fields: tag and length.
const ENTRY_BYTES: usize = 8;
/// Bytes of the counts in the response.
const COUNTS_BYTES: usize = 128;

/// Failures so far.
pub(super) struct Failures {
    list: Vec<v1::IngestFailure>,
    /// Longest message of one failure.
    message_bytes: usize,
    /// Bytes still free in the response.
    left_bytes: usize,
    /// Documents of the call so far whose id was blank.
    n_nameless: usize,
}

impl Failures {
    /// An empty list for a response of at most `max_message_bytes` bytes.
    pub(super) fn new(max_message_bytes: usize) -> Self {
        // If all messages are long, they get half of the response.
        let share = max_message_bytes / 2 / MAX_FAILURES;
        Self {
            list: Vec::new(),
            message_bytes: share.clamp(KEPT_MESSAGE_BYTES, MAX_MESSAGE_BYTES),
            left_bytes: max_message_bytes.saturating_sub(COUNTS_BYTES),
            n_nameless: 0,
        }
    }

    /// Lists a failure.
    ///
    /// # Errors
    /// There are too many failures, or the response has no room for the id.
    pub(super) fn add(&mut self, document_id: String, problem: Problem) -> Result<(), Problem> {
        let mut message = shortened(problem.message, self.message_bytes);
        if document_id.trim().is_empty() {
            self.n_nameless += 1;
            message.push_str(&format!(
                " (blank id number {} of this call)",
                self.n_nameless
            ));
        }
        let failure = v1::IngestFailure {
            document_id: shortened(document_id, MAX_ID_BYTES),
            message,
            reason: problem.reason.to_owned(),
        };
        let bytes = failure.encoded_len() + ENTRY_BYTES;
        if self.list.len() == MAX_FAILURES || bytes > self.left_bytes {
            let last = format!("{}: {}", failure.document_id, failure.message);
            return Err(Problem::too_many_failures(self.list.len(), &last));
        }
        self.left_bytes -= bytes;
        self.list.push(failure);
        Ok(())
    }

    pub(super) fn into_list(self) -> Vec<v1::IngestFailure> {
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn problem() -> Problem {
        Problem::invalid("header.id", "x".repeat(10_000))
    }

    /// The response of a call whose list of failures is full, and the reason why.
    fn filled(
        limit: usize,
        id: impl Fn(usize) -> String,
    ) -> (v1::IngestDocumentsResponse, Problem) {
        let mut failures = Failures::new(limit);
        let mut added = (0..).map(|i| failures.add(id(i), problem()));
        let too_many = added.find_map(Result::err).unwrap();
        let response = v1::IngestDocumentsResponse {
            added: u64::MAX,
            replaced: u64::MAX,
            unchanged: u64::MAX,
            chunks: u64::MAX,
            tokens: u64::MAX,
            kv_bytes: u64::MAX,
            failures: failures.into_list(),
        };
        (response, too_many)
    }

    #[test]
    fn failures_are_listed_up_to_a_limit_and_fit_a_message() {
        for limit in [4 << 20, 65_536, 20_000, config::MIN_MESSAGE_BYTES] {
            for id_bytes in [0, 20, 1024, 5000] {
                let id = |i: usize| format!("{i} {}", "d".repeat(id_bytes));
                let (response, too_many) = filled(limit, id);
                assert_eq!(too_many.reason, "TOO_MANY_FAILURES");
                let n = response.failures.len();
                assert!(n > 0 && n <= MAX_FAILURES);
                assert!(too_many.message.contains(&format!("more than {n} ")));
                let bytes = response.encoded_len();
                assert!(bytes <= limit, "{bytes} > {limit}");
                for (i, failure) in response.failures.iter().enumerate() {
                    assert_eq!(failure.document_id, shortened(id(i), MAX_ID_BYTES));
                    assert!(failure.message.len() >= KEPT_MESSAGE_BYTES - 4);
                }
            }
        }
    }

    #[test]
    fn the_default_message_has_room_for_all_that_are_listed() {
        let (response, _) = filled(4 << 20, |i| format!("{i} {}", "d".repeat(5000)));
        assert_eq!(response.failures.len(), MAX_FAILURES);
        let (response, _) = filled(65_536, |i| format!("{i}"));
        assert_eq!(response.failures.len(), MAX_FAILURES);
    }

    #[test]
    fn an_id_that_the_store_takes_is_listed_whole() {
        let mut failures = Failures::new(config::MIN_MESSAGE_BYTES);
        failures.add("d".repeat(1024), problem()).unwrap();
        assert_eq!(failures.into_list()[0].document_id.len(), 1024);
    }
}
