//! The documents of one call that failed: a list short enough to be sent, whatever ids and messages it holds.

use ragweave_proto::v1;

use crate::status::{Problem, shortened};

/// Failures listed in one response; one more ends the call.
const MAX_FAILURES: usize = 256;
/// Longest id and message; what the store takes as an id is never cut.
const MAX_ID_BYTES: usize = 1024;
const MAX_MESSAGE_BYTES: usize = 4096;
/// What a failure takes in a message beside its id and its own message: the reason, tags and lengths.
const ENTRY_BYTES: usize = 64;

/// Failures so far.
pub(super) struct Failures {
    list: Vec<v1::IngestFailure>,
    /// What one of them may take.
    share_bytes: usize,
    /// Documents of the call so far whose id was blank.
    n_nameless: usize,
}

impl Failures {
    /// For a response of at most so many bytes.
    pub(super) fn new(max_message_bytes: usize) -> Self {
        // One share more than there are failures is left for the counts.
        let share = max_message_bytes / (MAX_FAILURES + 1);
        Self {
            list: Vec::new(),
            share_bytes: share.saturating_sub(ENTRY_BYTES),
            n_nameless: 0,
        }
    }

    /// Lists a failure.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn add(&mut self, document_id: String, problem: Problem) -> Result<(), Problem> {
        let mut message = problem.message;
        if document_id.trim().is_empty() {
            self.n_nameless += 1;
            message.push_str(&format!(
                " (blank id number {} of this call)",
                self.n_nameless
            ));
        }
        if self.list.len() == MAX_FAILURES {
            let last = format!("{}: {message}", shortened(document_id, MAX_ID_BYTES));
            return Err(Problem::too_many_failures(MAX_FAILURES, &last));
        }
        let document_id = shortened(document_id, MAX_ID_BYTES.min(self.share_bytes / 2));
        let room = self.share_bytes.saturating_sub(document_id.len());
        self.list.push(v1::IngestFailure {
            message: shortened(message, MAX_MESSAGE_BYTES.min(room)),
            document_id,
            reason: problem.reason.to_owned(),
        });
        Ok(())
    }

    pub(super) fn into_list(self) -> Vec<v1::IngestFailure> {
        self.list
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn problem() -> Problem {
        Problem::invalid("header.id", "x".repeat(10_000))
    }

    #[test]
    fn failures_are_listed_up_to_a_limit_and_fit_a_message() {
        for limit in [4 << 20, 65_536, 20_000] {
            let mut failures = Failures::new(limit);
            for i in 0..MAX_FAILURES {
                failures
                    .add(format!("{i} {}", "d".repeat(5000)), problem())
                    .unwrap();
            }
            let too_many = failures.add("last".to_owned(), problem()).unwrap_err();
            assert_eq!(too_many.reason, "TOO_MANY_FAILURES");
            let response = v1::IngestDocumentsResponse {
                added: u64::MAX,
                failures: failures.into_list(),
                ..Default::default()
            };
            assert_eq!(response.failures.len(), MAX_FAILURES);
            assert!(
                response.encoded_len() <= limit,
                "{}",
                response.encoded_len()
            );
        }
    }

    #[test]
    fn an_id_that_the_store_takes_is_listed_whole() {
        let mut failures = Failures::new(4 << 20);
        failures.add("d".repeat(1024), problem()).unwrap();
        assert_eq!(failures.into_list()[0].document_id.len(), 1024);
    }
}
