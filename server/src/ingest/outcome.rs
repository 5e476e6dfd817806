//! The options of an ingest and its outcome.

use ragweave_store::{ChunkRecord, Document};

use super::prepared::Unconditioned;

/// How documents are ingested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IngestOptions {
    /// Text and vectors only; KV is computed on first use.
    pub no_kv: bool,
}

/// The outcome for one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestOutcome {
    pub change: Change,
    pub document_id: String,
    /// Ids of the document's chunks, in reading order.
    pub chunk_ids: Vec<String>,
    /// Tokens of all its chunks, wrappers included.
    pub n_tokens: usize,
    /// KV bytes written for it; chunks whose KV was already stored add none.
    pub kv_bytes: u64,
    /// Sequence number of the commit; `None` when there was nothing to commit.
    pub seq: Option<u64>,
    /// Set if the document waits for its neighbours: pass it to [`Ingestor::condition`] once all documents of the run
    /// are in the store.
    pub unconditioned: Option<Unconditioned>,
}

/// How the store changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Added,
    /// The document was in the store with other content, with other neighbours, or without all its KV.
    Replaced,
    /// Same content, same chunking, same neighbours, KV complete: nothing was written.
    Unchanged,
}

impl IngestOutcome {
    /// The outcome for a document of which nothing has been written.
    pub(super) fn unwritten(change: Change, document: &Document) -> Self {
        let n_tokens = |chunk: &ChunkRecord| chunk.token_ids.len();
        let chunks = document.chunks.iter();
        Self {
            change,
            document_id: document.id.clone(),
            chunk_ids: chunks.clone().map(|chunk| chunk.id.clone()).collect(),
            n_tokens: chunks.map(n_tokens).sum(),
            kv_bytes: 0,
            seq: None,
            unconditioned: None,
        }
    }
}
