//! IngestDocuments: headers and text parts of a stream become documents, one at a time in memory.

use std::time::{Duration, Instant};

use ragweave_proto::v1;
use ragweave_proto::v1::ingest_documents_request::Part;
use ragweave_retriever::SourceDocument;
use tokio::time::{timeout, timeout_at};
use tokio_stream::{Stream, StreamExt};
use tonic::{Status, Streaming};

use crate::config::Limits;
use crate::convert;
use crate::ingest::{Change, IngestError, IngestOptions, IngestOutcome, Ingestor, Unconditioned};
use crate::status::Problem;

/// Largest text part. Clients cut there, so that one message never holds a whole document.
pub(crate) const MAX_PART_BYTES: usize = 1 << 20;
/// Failures listed in one response; one more ends the call.
const MAX_FAILURES: usize = 256;
/// Longest id that a failure is listed under; the store takes none as long.
const MAX_ID_BYTES: usize = 4096;
/// Documents that wait for their neighbours until the stream ends; more do not wait for the others.
const MAX_WAITING: usize = 4096;
/// Longest wait for the next part: a client that went away without a word must not keep its place.
const PART_IDLE_LIMIT: Duration = Duration::from_secs(60);

/// A document whose parts are still coming.
struct Arriving {
    document: SourceDocument,
    options: IngestOptions,
    /// When its first part came.
    since: Instant,
    /// All bytes announced so far, also those beyond the limit, which are not kept.
    bytes: usize,
}

/// One call: what it ingests with, and what came of it.
struct Call<'a> {
    ingestor: &'a Ingestor,
    limits: &'a Limits,
    response: v1::IngestDocumentsResponse,
    /// Documents that get their neighbours at the end.
    waiting: Vec<Unconditioned>,
}

/// Reads the stream to its end. A document that fails is reported and the next one goes on; a stream that breaks the
/// protocol, or an error that every further document would meet, ends the call. What was committed stays.
///
/// # Errors
/// INVALID_ARGUMENT for a broken protocol; DEADLINE_EXCEEDED for an idle stream; FAILED_PRECONDITION for too many
/// failures; the error of the store or the engine where all must fail.
pub(super) async fn documents(
    ingestor: &Ingestor,
    mut parts: Streaming<v1::IngestDocumentsRequest>,
    limits: &Limits,
) -> Result<v1::IngestDocumentsResponse, Status> {
    let mut call = Call {
        ingestor,
        limits,
        response: v1::IngestDocumentsResponse::default(),
        waiting: Vec::new(),
    };
    let mut arriving: Option<Arriving> = None;
    while let Some(message) = call.next_part(&mut parts, arriving.as_ref()).await? {
        match message.part {
            Some(Part::Header(header)) => {
                let next = Arriving::new(header)?;
                if let Some(complete) = arriving.replace(next) {
                    call.ingest(complete).await?;
                }
            }
            Some(Part::Text(text)) => {
                let Some(document) = &mut arriving else {
                    return Err(Problem::invalid("part", "text came before any header").into());
                };
                document.take(&text, limits.max_document_bytes)?;
            }
            None => return Err(Problem::invalid("part", "must be a header or text").into()),
        }
    }
    if let Some(complete) = arriving {
        call.ingest(complete).await?;
    }
    call.condition().await?;
    Ok(call.response)
}

/// The next part, if it comes within `limit`.
async fn next_part<T>(
    parts: &mut (impl Stream<Item = Result<T, Status>> + Unpin),
    limit: Duration,
) -> Result<Option<T>, Status> {
    match timeout(limit, parts.next()).await {
        Ok(part) => part.transpose(),
        Err(_) => Err(Problem::idle_stream(limit).into()),
    }
}

impl Arriving {
    fn new(header: v1::DocumentHeader) -> Result<Self, Problem> {
        if header.id.trim().is_empty() {
            return Err(Problem::invalid("header.id", "must not be blank"));
        }
        if header.id.len() > MAX_ID_BYTES {
            let message = format!("has more than {MAX_ID_BYTES} bytes");
            return Err(Problem::invalid("header.id", message));
        }
        let document = SourceDocument {
            id: header.id,
            text: String::new(),
            metadata: header.metadata.into_iter().collect(),
            format: convert::document_format(header.format)?,
        };
        let options = IngestOptions {
            no_kv: header.skip_kv.unwrap_or(false),
        };
        Ok(Self {
            document,
            options,
            since: Instant::now(),
            bytes: 0,
        })
    }

    fn take(&mut self, text: &str, max_bytes: usize) -> Result<(), Problem> {
        if text.len() > MAX_PART_BYTES {
            let message = format!(
                "has {} bytes, the limit of a part is {MAX_PART_BYTES}",
                text.len()
            );
            return Err(Problem::invalid("text", message));
        }
        self.bytes = self.bytes.saturating_add(text.len());
        if self.bytes <= max_bytes {
            self.document.text.push_str(text);
        }
        Ok(())
    }
}

impl Call<'_> {
    /// The next part, if it comes before the stream counts as idle, and the document it may belong to as too slow.
    async fn next_part(
        &self,
        parts: &mut Streaming<v1::IngestDocumentsRequest>,
        arriving: Option<&Arriving>,
    ) -> Result<Option<v1::IngestDocumentsRequest>, Status> {
        let limit = self.limits.max_document_time;
        let left = arriving.map(|document| limit.saturating_sub(document.since.elapsed()));
        match left {
            Some(left) if left < PART_IDLE_LIMIT => match timeout(left, parts.next()).await {
                Ok(part) => part.transpose(),
                Err(_) => Err(Problem::from(IngestError::TooSlow { limit }).into()),
            },
            _ => next_part(parts, PART_IDLE_LIMIT).await,
        }
    }

    async fn ingest(&mut self, arrived: Arriving) -> Result<(), Problem> {
        let document_id = arrived.document.id.clone();
        match self.outcome(arrived).await {
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

    async fn outcome(&self, arrived: Arriving) -> Result<IngestOutcome, IngestError> {
        let (bytes, limit) = (arrived.bytes, self.limits.max_document_bytes);
        if bytes > limit {
            return Err(IngestError::TooLarge { bytes, limit });
        }
        let ingesting = self.ingestor.ingest(arrived.document, &arrived.options);
        self.in_time(arrived.since, ingesting).await
    }

    /// What `work` on a document gives, if that is within the time one document may take.
    async fn in_time<T>(
        &self,
        since: Instant,
        work: impl Future<Output = Result<T, IngestError>>,
    ) -> Result<T, IngestError> {
        let limit = self.limits.max_document_time;
        let done = timeout_at((since + limit).into(), work).await;
        done.unwrap_or(Err(IngestError::TooSlow { limit }))
    }

    /// Gives the documents that wait for them their neighbours, and the KV after those.
    async fn condition(&mut self) -> Result<(), Problem> {
        for waiting in std::mem::take(&mut self.waiting) {
            let conditioning = self.ingestor.condition(&waiting);
            match self.in_time(Instant::now(), conditioning).await {
                Ok(outcome) => self.response.kv_bytes += outcome.map_or(0, |done| done.kv_bytes),
                Err(error) => self.fail(waiting.document_id().to_owned(), error)?,
            }
        }
        Ok(())
    }

    /// Lists the failure of one document; an error that every document would meet ends the call.
    fn fail(&mut self, document_id: String, error: IngestError) -> Result<(), Problem> {
        if error.is_fatal() {
            return Err(error.into());
        }
        let Problem {
            reason, message, ..
        } = error.into();
        let reason = reason.to_owned();
        let failure = v1::IngestFailure {
            document_id,
            reason,
            message,
        };
        note(failure, &mut self.response)
    }
}

/// Lists a failure, as long as the list stays short enough to be sent.
fn note(
    failure: v1::IngestFailure,
    response: &mut v1::IngestDocumentsResponse,
) -> Result<(), Problem> {
    if response.failures.len() == MAX_FAILURES {
        let last = format!("{}: {}", failure.document_id, failure.message);
        return Err(Problem::too_many_failures(MAX_FAILURES, &last));
    }
    response.failures.push(failure);
    Ok(())
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
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn a_silent_stream_ends_and_a_talking_one_does_not() {
        let limit = Duration::from_millis(20);
        let mut silent = tokio_stream::pending::<Result<u8, Status>>();
        let status = next_part(&mut silent, limit).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let mut talking = tokio_stream::once(Ok::<u8, Status>(7));
        assert_eq!(next_part(&mut talking, limit).await.unwrap(), Some(7));
        assert_eq!(next_part(&mut talking, limit).await.unwrap(), None);
    }

    #[test]
    fn failures_are_listed_up_to_a_limit() {
        let mut response = v1::IngestDocumentsResponse::default();
        for _ in 0..MAX_FAILURES {
            note(v1::IngestFailure::default(), &mut response).unwrap();
        }
        let problem = note(v1::IngestFailure::default(), &mut response).unwrap_err();
        assert_eq!(problem.reason, "TOO_MANY_FAILURES");
        assert_eq!(response.failures.len(), MAX_FAILURES);
    }
}
