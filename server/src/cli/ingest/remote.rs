//! `--addr`: sends the documents to a running server, which owns the data directory and ingests them itself.

use std::path::PathBuf;

use anyhow::Context as _;
use prost::Message as _;
use ragweave_proto::v1;
use ragweave_retriever::{Printable, SourceDocument};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use super::corpus::{self, ReaderPanicked, Reading};
use super::ending::{Ending, NO_DOCUMENTS};
use crate::client::{Client, parts_within};

/// Parts waiting for the network; a part holds at most 1 MiB.
const PARTS_AHEAD: usize = 4;
/// Documents sent in one call. A server closes old connections, and with them calls that outlive the grace period.
/// Calls this short end in time, and the next one uses a new connection.
const DOCUMENTS_PER_CALL: usize = 64;
/// Bound on one document in this client; the server's own limit is what counts.
const MAX_DOCUMENT_BYTES: usize = 1 << 30;
const GO_ON: &str =
    "the ingest broke off; what was committed stays, run the same command to continue";

/// Sends the documents of `paths` and prints the server's totals.
///
/// # Errors
/// The server cannot be reached or refuses a whole call; the reader of the documents panicked.
pub(super) async fn run(
    addr: &str,
    paths: &[PathBuf],
    limit: Option<usize>,
    no_kv: bool,
) -> anyhow::Result<Ending> {
    let mut client = Client::connect(addr).await?;
    let outgoing = Outgoing {
        skip_kv: no_kv,
        max_message_bytes: client.max_message_bytes().await?,
    };
    let mut documents = Documents {
        reading: corpus::read(paths, MAX_DOCUMENT_BYTES, limit),
        n_unreadable: 0,
    };
    let mut totals = v1::IngestDocumentsResponse::default();
    let ended = send_all(&mut client, &mut documents, &outgoing, &mut totals).await;
    let n_failed = totals.failures.len() + documents.n_unreadable;
    if ended.is_ok() && n_failed as u64 + totals.added + totals.replaced + totals.unchanged == 0 {
        eprintln!("ragweave: {}", NO_DOCUMENTS);
        return Ok(Ending::Stopped);
    }
    print(&totals, n_failed);
    ended.context(GO_ON)?;
    Ok(if n_failed == 0 {
        Ending::Done
    } else {
        Ending::SomeFailed
    })
}

/// Makes one call after another until there are no more documents; `totals` sums the calls that succeeded.
async fn send_all(
    client: &mut Client,
    documents: &mut Documents,
    outgoing: &Outgoing,
    totals: &mut v1::IngestDocumentsResponse,
) -> anyhow::Result<()> {
    while let Some(first) = documents.next().await? {
        let (parts, receiver) = channel(PARTS_AHEAD);
        let (response, sent) = tokio::join!(
            client.ingest(ReceiverStream::new(receiver)),
            send(first, documents, parts, outgoing),
        );
        let response = response?;
        for failure in &response.failures {
            eprintln!("failed: {}", described(failure));
        }
        add(totals, response);
        sent?;
    }
    Ok(())
}

/// A failure as one line that is safe to print, whatever the server put into it.
fn described(failure: &v1::IngestFailure) -> String {
    let [id, message, reason] =
        [&failure.document_id, &failure.message, &failure.reason].map(|text| Printable::text(text));
    format!("{id}: {message} [{reason}]")
}

/// How documents are turned into messages for this server.
struct Outgoing {
    skip_kv: bool,
    max_message_bytes: usize,
}

impl Outgoing {
    /// The parts of a document, or why it cannot be sent: a message that is too large would end the call for all.
    fn parts(
        &self,
        document: SourceDocument,
    ) -> Result<impl Iterator<Item = v1::IngestDocumentsRequest> + use<>, String> {
        let (id, limit) = (document.id.clone(), self.max_message_bytes);
        let mut parts = parts_within(document, self.skip_kv, limit).peekable();
        let header_bytes = parts
            .peek()
            .map_or(0, v1::IngestDocumentsRequest::encoded_len);
        if header_bytes > limit {
            return Err(format!(
                "{id}: its id and metadata have {header_bytes} bytes, more than the server's limits.max_message_bytes \
                 ({limit}); move long values into the text"
            ));
        }
        Ok(parts)
    }
}

/// The documents that could be read.
struct Documents {
    reading: Reading,
    /// Those that could not be read, or could not be sent.
    n_unreadable: usize,
}

impl Documents {
    /// The next document; those that cannot be read are reported and counted.
    async fn next(&mut self) -> Result<Option<SourceDocument>, ReaderPanicked> {
        while let Some(item) = self.reading.next().await? {
            match item {
                Ok(document) => return Ok(Some(document)),
                Err(unreadable) => self.fail(&unreadable, unreadable.count),
            }
        }
        Ok(None)
    }

    /// Reports a failure that stands for `count` documents.
    fn fail(&mut self, failure: &impl std::fmt::Display, count: usize) {
        eprintln!("failed: {failure}");
        self.n_unreadable += count;
    }
}

/// Sends the documents of one call part by part: `first`, and as many more as a call may have.
async fn send(
    first: SourceDocument,
    documents: &mut Documents,
    parts: Sender<v1::IngestDocumentsRequest>,
    outgoing: &Outgoing,
) -> Result<(), ReaderPanicked> {
    let mut next = Some(first);
    let mut n_sent = 0;
    while let Some(document) = next.take() {
        match outgoing.parts(document) {
            Ok(messages) => {
                for message in messages {
                    // The server has ended the call; its response gives the reason.
                    if parts.send(message).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Err(unsendable) => documents.fail(&unsendable, 1),
        }
        n_sent += 1;
        if n_sent < DOCUMENTS_PER_CALL {
            next = documents.next().await?;
        }
    }
    Ok(())
}

fn add(totals: &mut v1::IngestDocumentsResponse, call: v1::IngestDocumentsResponse) {
    totals.added += call.added;
    totals.replaced += call.replaced;
    totals.unchanged += call.unchanged;
    totals.chunks += call.chunks;
    totals.tokens += call.tokens;
    totals.kv_bytes += call.kv_bytes;
    totals.failures.extend(call.failures);
}

fn print(totals: &v1::IngestDocumentsResponse, n_failed: usize) {
    say!(
        "{} added, {} replaced, {} unchanged, {n_failed} failed; {} chunks, {} tokens, {:.3} GB of KV written",
        totals.added,
        totals.replaced,
        totals.unchanged,
        totals.chunks,
        totals.tokens,
        totals.kv_bytes as f64 / 1e9,
    );
}

#[cfg(test)]
mod tests {
    use ragweave_proto::v1::ingest_documents_request::Part;
    use ragweave_retriever::DocumentFormat;

    use super::*;

    fn document(n: usize) -> SourceDocument {
        SourceDocument {
            id: n.to_string(),
            text: "The fox lives in Brindle.".to_owned(),
            metadata: [].into(),
            format: DocumentFormat::Text,
        }
    }

    fn outgoing(max_message_bytes: usize) -> Outgoing {
        Outgoing {
            skip_kv: true,
            max_message_bytes,
        }
    }

    #[tokio::test]
    async fn a_document_that_no_message_carries_fails_alone() {
        let large = SourceDocument {
            metadata: [("blob".to_owned(), "x".repeat(5000))].into(),
            ..document(0)
        };
        let long = SourceDocument {
            text: "The harbour. ".repeat(1000),
            ..document(2)
        };
        let mut documents = Documents {
            reading: Reading::start([Ok(large), Ok(long)].into_iter()),
            n_unreadable: 0,
        };
        let (parts, mut receiver) = channel(64);
        send(document(1), &mut documents, parts, &outgoing(4096))
            .await
            .unwrap();
        let mut ids = Vec::new();
        while let Some(message) = receiver.recv().await {
            assert!(message.encoded_len() <= 4096);
            if let Some(Part::Header(header)) = message.part {
                ids.push(header.id);
            }
        }
        assert_eq!(
            (ids, documents.n_unreadable),
            (vec!["1".to_owned(), "2".to_owned()], 1)
        );
    }

    #[test]
    fn what_a_server_says_of_a_failure_does_not_reach_the_terminal_raw() {
        let failure = v1::IngestFailure {
            document_id: "a\n\u{1b}[31m".to_owned(),
            message: "it is \u{202e}bad\r".to_owned(),
            reason: "INVALID_FIELD\u{7}".to_owned(),
        };
        assert_eq!(
            described(&failure),
            "a\\n\\u{1b}[31m: it is \\u{202e}bad\\r [INVALID_FIELD\\u{7}]"
        );
    }

    #[tokio::test]
    async fn a_call_takes_its_share_and_leaves_the_rest() {
        let items = (1..DOCUMENTS_PER_CALL + 2).map(|n| Ok(document(n)));
        let mut documents = Documents {
            reading: Reading::start(items),
            n_unreadable: 0,
        };
        let (parts, mut receiver) = channel(4 * DOCUMENTS_PER_CALL);
        send(document(0), &mut documents, parts, &outgoing(4 << 20))
            .await
            .unwrap();
        let mut n_headers = 0;
        while let Some(message) = receiver.recv().await {
            n_headers += usize::from(matches!(message.part, Some(Part::Header(_))));
        }
        assert_eq!(n_headers, DOCUMENTS_PER_CALL);
        let next = documents.next().await.unwrap().unwrap();
        assert_eq!(next.id, DOCUMENTS_PER_CALL.to_string());
        assert!(documents.next().await.unwrap().is_some());
        assert!(documents.next().await.unwrap().is_none());
    }
}
