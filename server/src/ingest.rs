//! One document into the store: split, embed, compute missing chunk KV, commit, index. The CLI and the RPC call the
//! same functions, so offline and online ingest cannot drift apart.
//!
//! A document becomes visible as a whole, in one commit, after its KV is durable. Whatever stops an ingest before that
//! leaves the old version, or nothing.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use ragweave_engine::ChunkKv;
use ragweave_retriever::{Embedding, SourceDocument};
use ragweave_store::{BlobKey, ChunkRecord, Document, PendingBlob};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::components::Components;

mod counters;
mod error;
mod prepare;

pub use counters::IngestCounters;
pub use error::IngestError;

/// How documents are ingested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IngestOptions {
    /// Text and vectors only; KV is computed on first use.
    pub no_kv: bool,
}

/// What became of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestOutcome {
    pub change: Change,
    pub document_id: String,
    /// Ids of the document's chunks, in reading order.
    pub chunk_ids: Vec<String>,
    /// Tokens of all its chunks, wrappers included.
    pub n_tokens: usize,
    /// KV bytes written for it; chunks whose KV was there already cost none.
    pub kv_bytes: u64,
    /// Sequence number of the commit; `None` when nothing changed.
    pub seq: Option<u64>,
}

/// How the store changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Added,
    /// A document of this id was there with other content, or without all its KV.
    Replaced,
    /// Same content, same chunking, KV complete: nothing was written.
    Unchanged,
}

/// Ingests and deletes documents, one at a time; share it in an `Arc`.
pub struct Ingestor {
    components: Components,
    counters: Arc<IngestCounters>,
    /// Documents take turns: the engine computes one chunk at a time anyway, and two versions of one document must not
    /// interleave between commit and index. Whoever writes takes the turn along to the blocking thread, where it is
    /// kept although the caller may have gone.
    turn: Arc<Mutex<()>>,
}

/// A document that is split and embedded.
struct Prepared {
    document: Document,
    /// One per chunk; `None` where there is nothing to find.
    embeddings: Vec<Option<Embedding>>,
}

impl Ingestor {
    pub fn new(components: &Components) -> Self {
        Self {
            components: components.clone(),
            counters: Arc::default(),
            turn: Arc::default(),
        }
    }

    /// Running totals, for progress displays.
    pub fn counters(&self) -> &Arc<IngestCounters> {
        &self.counters
    }

    /// Ingests one document; returns after its commit is durable and the index shows it. Dropping the future before
    /// the commit has begun leaves the store as it was; a commit that has begun is finished, its index entries too.
    ///
    /// # Errors
    /// [`IngestError`]; the store then holds what it held before.
    pub async fn ingest(
        &self,
        source: SourceDocument,
        options: &IngestOptions,
    ) -> Result<IngestOutcome, IngestError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let no_kv = options.no_kv;
        let components = self.components.clone();
        let (source, known) = blocking(move || {
            prepare::check(&components, &source)?;
            let known = prepare::known_version(&components, &source, no_kv)?;
            Ok((source, known))
        })
        .await?;
        if let Some(prepare::Known::Unchanged(document)) = known {
            return Ok(outcome(Change::Unchanged, &document, 0, None));
        }
        let change = if known.is_some() {
            Change::Replaced
        } else {
            Change::Added
        };

        let components = self.components.clone();
        let prepared = blocking(move || prepare::prepare(&components, source)).await?;
        let before = self.counters.kv_bytes();
        let blobs = if no_kv {
            Vec::new()
        } else {
            self.compute_kv(&prepared.document).await?
        };
        let kv_bytes = self.counters.kv_bytes() - before;
        let (document, seq) = self.commit(turn, prepared, blobs).await?;
        Ok(outcome(change, &document, kv_bytes, Some(seq)))
    }

    /// Removes a document, its vectors and its KV. `false` when there is none of this id.
    ///
    /// # Errors
    /// [`IngestError::Store`]; the document is then still there.
    pub async fn delete(&self, document_id: &str) -> Result<bool, IngestError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let components = self.components.clone();
        let id = document_id.to_owned();
        blocking(move || {
            let _turn = turn;
            let was_there = components.store.remove_document(&id)?;
            let mut index = components
                .index
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            index.remove_document(&id);
            Ok(was_there)
        })
        .await
    }

    /// Computes and writes the KV that the store lacks. A chunk is written while the next one is computed.
    async fn compute_kv(&self, document: &Document) -> Result<Vec<PendingBlob>, IngestError> {
        let mut pending = Vec::new();
        let mut writing: Option<JoinHandle<Result<PendingBlob, IngestError>>> = None;
        let mut seen = HashSet::new();
        for chunk in &document.chunks {
            if !seen.insert(chunk.key) || self.has_blob(chunk.key).await? {
                self.counters.add(chunk.token_ids.len(), 0);
                continue;
            }
            let conditioning = self.components.prompt.conditioning_prefix();
            let kv = self
                .components
                .engine
                .chunk_kv(conditioning, chunk.token_ids.clone())
                .await?;
            if let Some(previous) = writing.replace(self.write(kv)) {
                pending.push(joined(previous).await?);
            }
        }
        if let Some(last) = writing {
            pending.push(joined(last).await?);
        }
        Ok(pending)
    }

    async fn has_blob(&self, key: BlobKey) -> Result<bool, IngestError> {
        let store = Arc::clone(&self.components.store);
        blocking(move || Ok(store.contains_blob(&key)?)).await
    }

    fn write(&self, kv: ChunkKv) -> JoinHandle<Result<PendingBlob, IngestError>> {
        let components = self.components.clone();
        let counters = Arc::clone(&self.counters);
        spawn_blocking(move || {
            let blob = components.append_kv(&kv)?;
            let bytes: usize = kv.layers.iter().map(|(k, v)| k.len() + v.len()).sum();
            counters.add(kv.token_ids.len(), bytes as u64);
            Ok(blob)
        })
    }

    /// Commits the document, then shows it in the index.
    async fn commit(
        &self,
        turn: OwnedMutexGuard<()>,
        prepared: Prepared,
        blobs: Vec<PendingBlob>,
    ) -> Result<(Document, u64), IngestError> {
        let components = self.components.clone();
        blocking(move || {
            let _turn = turn;
            let Prepared {
                document,
                embeddings,
            } = prepared;
            let seq = components.store.commit_document(&document, blobs)?;
            let mut index = components
                .index
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            index.remove_document(&document.id);
            for (chunk, embedding) in document.chunks.iter().zip(embeddings) {
                let Some(embedding) = embedding else { continue };
                index.insert(&chunk.id, &document.id, &document.metadata, embedding)?;
            }
            Ok((document, seq))
        })
        .await
    }
}

fn outcome(change: Change, document: &Document, kv_bytes: u64, seq: Option<u64>) -> IngestOutcome {
    let n_tokens = |chunk: &ChunkRecord| chunk.token_ids.len();
    IngestOutcome {
        change,
        document_id: document.id.clone(),
        chunk_ids: document
            .chunks
            .iter()
            .map(|chunk| chunk.id.clone())
            .collect(),
        n_tokens: document.chunks.iter().map(n_tokens).sum(),
        kv_bytes,
        seq,
    }
}

/// Runs disk or tokenizer work where blocking is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IngestError> + Send + 'static,
) -> Result<T, IngestError> {
    joined(spawn_blocking(work)).await
}

async fn joined<T>(task: JoinHandle<Result<T, IngestError>>) -> Result<T, IngestError> {
    task.await.unwrap_or_else(|error| {
        Err(IngestError::Panicked {
            message: error.to_string(),
        })
    })
}
