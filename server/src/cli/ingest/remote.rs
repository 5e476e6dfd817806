//! `--addr`: sends the documents to a running server, which owns the data directory and ingests them itself.

use std::path::PathBuf;

use anyhow::Context as _;
use tokio::sync::mpsc::Receiver;
use tokio_stream::wrappers::ReceiverStream;

use super::corpus::{self, Item};
use super::job::Ending;
use crate::client::{Client, document_parts};

/// Parts waiting for the network; a part holds at most 1 MiB.
const PARTS_AHEAD: usize = 4;
/// Bound on one document here; the server's own limit is what counts.
const MAX_DOCUMENT_BYTES: usize = 1 << 30;

/// Sends the documents of `paths` and prints what the server made of them.
///
/// # Errors
/// The server cannot be reached or refuses the whole call.
pub(super) async fn run(
    addr: &str,
    paths: &[PathBuf],
    limit: Option<usize>,
    no_kv: bool,
) -> anyhow::Result<Ending> {
    let mut client = Client::connect(addr).await?;
    let documents = corpus::read(paths, MAX_DOCUMENT_BYTES, limit);
    let (parts, receiver) = tokio::sync::mpsc::channel(PARTS_AHEAD);
    let sending = tokio::spawn(async move { send(documents, &parts, no_kv).await });
    let response = client.ingest(ReceiverStream::new(receiver)).await?;
    let Sent {
        n_sent,
        n_unreadable,
    } = sending.await.context("read the documents")?;
    if n_sent + n_unreadable == 0 {
        eprintln!("ragweave: {}", super::NO_DOCUMENTS);
        return Ok(Ending::Stopped);
    }

    for failure in &response.failures {
        eprintln!(
            "failed: {}: {} [{}]",
            failure.document_id, failure.message, failure.reason
        );
    }
    println!(
        "{} added, {} replaced, {} unchanged, {} failed; {} chunks, {} tokens, {:.3} GB of KV written",
        response.added,
        response.replaced,
        response.unchanged,
        response.failures.len() + n_unreadable,
        response.chunks,
        response.tokens,
        response.kv_bytes as f64 / 1e9,
    );
    let all_done = response.failures.is_empty() && n_unreadable == 0;
    Ok(if all_done {
        Ending::Done
    } else {
        Ending::SomeFailed
    })
}

/// Documents by whether they could be read.
#[derive(Debug, Default)]
struct Sent {
    n_sent: usize,
    n_unreadable: usize,
}

/// Sends every document part by part.
async fn send(
    mut documents: Receiver<Item>,
    parts: &tokio::sync::mpsc::Sender<ragweave_proto::v1::IngestDocumentsRequest>,
    no_kv: bool,
) -> Sent {
    let mut sent = Sent::default();
    while let Some(item) = documents.recv().await {
        match item {
            Err(unreadable) => {
                eprintln!("failed: {unreadable}");
                sent.n_unreadable += 1;
            }
            Ok(document) => {
                sent.n_sent += 1;
                for part in document_parts(document, no_kv) {
                    // The server has ended the call; its answer says why.
                    if parts.send(part).await.is_err() {
                        return sent;
                    }
                }
            }
        }
    }
    sent
}
