//! IngestDocuments: assembles documents from the headers and text parts of a stream, one document in memory at a time.

use std::time::Duration;

use ragweave_proto::v1;
use ragweave_proto::v1::ingest_documents_request::Part;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Status, Streaming};

mod arriving;
mod failures;

use super::short::shortened;
use super::status::status;
use crate::config::Limits;
use crate::ingest::{Change, IngestError, IngestOutcome, Ingestor, Unconditioned};
use crate::problem::Problem;
use arriving::Arriving;
pub(crate) use arriving::MAX_PART_BYTES;
use failures::Failures;

/// Documents that may wait for their neighbours until the stream ends; once there are more, the waiting ones get theirs
/// early.
const MAX_WAITING: usize = 4096;
/// Bytes of an id that are shown in an error.
const SHOWN_ID_BYTES: usize = 256;
/// Longest wait for the next part: a client that has silently gone away must not keep its place.
const PART_IDLE_LIMIT: Duration = Duration::from_secs(60);

/// The state of one call: the ingestor it uses, and its results so far.
struct Call<'a> {
    ingestor: &'a Ingestor,
    limits: &'a Limits,
    response: v1::IngestDocumentsResponse,
    failures: Failures,
    /// Documents that get their neighbours at the end.
    waiting: Vec<Unconditioned>,
}

/// Reads the stream to its end. A document that fails is reported, and the next one is read. A stream that breaks the
/// protocol, or an error that would affect every further document, ends the call. Committed documents stay; the
/// document in progress is dropped, since it may be incomplete.
///
/// # Errors
/// INVALID_ARGUMENT for a broken protocol; DEADLINE_EXCEEDED for an idle stream; OUT_OF_RANGE for a message that is too
/// large to be read; FAILED_PRECONDITION for too many failures; the error of the store or the engine if every document
/// would fail.
pub(super) async fn documents(
    ingestor: &Ingestor,
    mut parts: Streaming<v1::IngestDocumentsRequest>,
    limits: &Limits,
) -> Result<v1::IngestDocumentsResponse, Status> {
    let mut call = Call {
        ingestor,
        limits,
        response: v1::IngestDocumentsResponse::default(),
        failures: Failures::new(limits.max_message_bytes),
        waiting: Vec::new(),
    };
    let mut arriving: Option<Arriving> = None;
    loop {
        let message = match call.next_part(&mut parts, arriving.as_ref()).await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            Err(broken) => return Err(cut_off(broken, arriving.as_ref())),
        };
        match message.part {
            Some(Part::Header(header)) => {
                if let Some(complete) = arriving.take() {
                    call.ingest(complete).await?;
                }
                arriving = Some(Arriving::new(header));
            }
            Some(Part::Text(text)) => match &mut arriving {
                Some(document) => document.take(&text, limits.max_document_bytes),
                None => return Err(Problem::invalid("part", "text came before any header").into()),
            },
            None => {
                let problem = Problem::invalid("part", "must be a header or text");
                return Err(cut_off(problem.into(), arriving.as_ref()));
            }
        }
    }
    // A call that its client has reset looks as if the stream had ended normally. The transport drops the call at its
    // next await point: the document in progress may be incomplete and must not be ingested before that.
    tokio::task::yield_now().await;
    if let Some(complete) = arriving {
        call.ingest(complete).await?;
    }
    call.condition().await?;
    call.response.failures = call.failures.into_list();
    Ok(call.response)
}

/// Why the next part of a stream cannot be read.
#[derive(Debug)]
struct Broken {
    problem: Problem,
    /// The transport's own status code, if the transport failed.
    code: Option<Code>,
}

impl From<Problem> for Broken {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            code: None,
        }
    }
}

/// The next part, if it arrives within `limit`.
async fn next_part<T>(
    parts: &mut (impl Stream<Item = Result<T, Status>> + Unpin),
    limit: Duration,
) -> Result<Option<T>, Broken> {
    match timeout(limit, parts.next()).await {
        Ok(part) => part.transpose().map_err(|status| unreadable(&status)),
        Err(_) => Err(Problem::idle_stream(limit).into()),
    }
}

/// The error for a stream whose next message cannot be read.
fn unreadable(status: &Status) -> Broken {
    match status.code() {
        Code::OutOfRange => Problem::message_too_large(status.message()).into(),
        code => Broken {
            problem: Problem::broken_stream(status.message()),
            code: Some(code),
        },
    }
}

/// Adds to the error which document was in progress when the call ended, and so is not in the corpus.
fn cut_off(Broken { problem, code }: Broken, arriving: Option<&Arriving>) -> Status {
    let problem = match arriving {
        None => problem,
        Some(arriving) => {
            let id = shortened(arriving.id().to_owned(), SHOWN_ID_BYTES);
            problem.and(&format!(
                "document {id:?} was in progress and is not in the corpus, those before it are; send it and the rest \
                 again"
            ))
        }
    };
    match code {
        None => problem.into(),
        Some(code) => status(problem, code),
    }
}

impl Call<'_> {
    /// The next part, if it arrives before the stream counts as idle and before the current document counts as too
    /// slow.
    async fn next_part(
        &self,
        parts: &mut Streaming<v1::IngestDocumentsRequest>,
        arriving: Option<&Arriving>,
    ) -> Result<Option<v1::IngestDocumentsRequest>, Broken> {
        let limit = self.limits.max_document_time;
        let left = arriving.map(|document| limit.saturating_sub(document.since().elapsed()));
        match left.filter(|left| *left < PART_IDLE_LIMIT) {
            Some(left) => timeout(left, next_part(parts, PART_IDLE_LIMIT))
                .await
                .unwrap_or_else(|_| Err(Problem::from(IngestError::TooSlow { limit }).into())),
            None => next_part(parts, PART_IDLE_LIMIT).await,
        }
    }

    async fn ingest(&mut self, arrived: Arriving) -> Result<(), Problem> {
        let document_id = arrived.id().to_owned();
        let (document, options) = match arrived.complete(self.limits.max_document_bytes) {
            Ok(complete) => complete,
            Err(problem) => return self.failures.add(document_id, problem),
        };
        match self.ingestor.ingest(document, &options).await {
            Ok(outcome) => {
                count(&outcome, &mut self.response);
                self.waiting.extend(outcome.unconditioned);
            }
            Err(error) => self.fail(document_id, error)?,
        }
        if self.waiting.len() >= MAX_WAITING {
            self.condition().await?;
        }
        Ok(())
    }

    /// Gives the waiting documents their neighbours, and the KV computed after them.
    async fn condition(&mut self) -> Result<(), Problem> {
        for waiting in std::mem::take(&mut self.waiting) {
            match self.ingestor.condition(&waiting).await {
                Ok(outcome) => self.response.kv_bytes += outcome.map_or(0, |done| done.kv_bytes),
                Err(error) => self.fail(waiting.document_id().to_owned(), error)?,
            }
        }
        Ok(())
    }

    /// Lists the failure of one document. An error that would affect every document ends the call.
    fn fail(&mut self, document_id: String, error: IngestError) -> Result<(), Problem> {
        if error.is_fatal() {
            return Err(error.into());
        }
        self.failures.add(document_id, error.into())
    }
}

fn count(outcome: &IngestOutcome, response: &mut v1::IngestDocumentsResponse) {
    match outcome.change {
        Change::Added => response.added += 1,
        Change::Replaced => response.replaced += 1,
        Change::Unchanged => {
            response.unchanged += 1;
            return;
        }
    }
    response.chunks += outcome.chunk_ids.len() as u64;
    response.tokens += outcome.n_tokens as u64;
    response.kv_bytes += outcome.kv_bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_silent_stream_ends_and_a_talking_one_does_not() {
        let limit = Duration::from_millis(20);
        let mut silent = tokio_stream::pending::<Result<u8, Status>>();
        let broken = next_part(&mut silent, limit).await.unwrap_err();
        assert_eq!(cut_off(broken, None).code(), Code::DeadlineExceeded);
        let mut talking = tokio_stream::once(Ok::<u8, Status>(7));
        assert_eq!(next_part(&mut talking, limit).await.unwrap(), Some(7));
        assert_eq!(next_part(&mut talking, limit).await.unwrap(), None);
    }

    #[test]
    fn a_stream_that_breaks_says_which_document_is_not_in() {
        let header = v1::DocumentHeader {
            id: "b".to_owned(),
            ..Default::default()
        };
        let broken = || unreadable(&Status::out_of_range("found 5 bytes, the limit is: 4"));
        let status = cut_off(broken(), Some(&Arriving::new(header)));
        assert_eq!(status.code(), Code::OutOfRange);
        for part in [
            "found 5 bytes",
            "limits.max_message_bytes",
            "document \"b\" was in progress",
        ] {
            assert!(status.message().contains(part), "{status:?}");
        }
        assert!(!cut_off(broken(), None).message().contains("in progress"));
    }

    #[test]
    fn a_broken_transport_keeps_its_own_code() {
        let status = cut_off(unreadable(&Status::cancelled("reset")), None);
        assert_eq!(
            (status.code(), status.message()),
            (Code::Cancelled, "reset")
        );
    }
}
