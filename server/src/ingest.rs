//! One document into the store: split, embed, compute missing chunk KV, commit, index. The CLI and the RPC call the
//! same functions, so offline and online ingest cannot drift apart.
//!
//! A document becomes visible as a whole, in one commit, after its KV is durable. Whatever stops an ingest before that
//! leaves the old version, or nothing. With neighbours configured there are two commits: the first, without KV, makes
//! the document one that others can have as a neighbour; the second brings its KV ([`neighbours`]).

use std::sync::{Arc, PoisonError};

use ragweave_retriever::{Embedding, SourceDocument};
use ragweave_store::{ChunkRecord, Document, PendingBlob};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::components::Components;

mod counters;
mod error;
mod kv;
mod neighbours;
mod prepare;

pub use counters::IngestCounters;
pub use error::IngestError;
pub use neighbours::Unconditioned;

use kv::NewKv;
use prepare::Known;

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
    /// Sequence number of the commit; `None` when there was nothing to commit.
    pub seq: Option<u64>,
    /// The document waits for its neighbours: give this to [`Ingestor::condition`] once all documents of the run are in.
    pub unconditioned: Option<Unconditioned>,
}

/// How the store changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Added,
    /// A document of this id was there with other content, with other neighbours, or without all its KV.
    Replaced,
    /// Same content, same chunking, same neighbours, KV complete: nothing was written.
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
    /// With `ingest.neighbours` above 0 the KV of what changed is left to [`Ingestor::condition`].
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
        let (change, earlier) = match known {
            None => (Change::Added, None),
            Some(Known::Outdated(earlier)) => (Change::Replaced, Some(earlier)),
            Some(Known::Unchanged(document)) => return Ok(outcome(Change::Unchanged, &document)),
            Some(Known::Unconditioned(document, waiting)) => {
                return Ok(IngestOutcome {
                    unconditioned: Some(waiting),
                    ..outcome(Change::Replaced, &document)
                });
            }
        };

        let components = self.components.clone();
        let preparing = move || prepare::prepare(&components, source, earlier.as_ref());
        let mut prepared = blocking(preparing).await?;
        let is_conditioned = self.components.config.ingest.neighbours > 0;
        let kv = if no_kv || is_conditioned {
            NewKv::default()
        } else {
            self.compute_kv(&mut prepared.document).await?
        };
        let unconditioned = is_conditioned.then(|| prepared.waiting(no_kv));
        let (document, seq) = self.commit(turn, prepared, kv.blobs).await?;
        Ok(IngestOutcome {
            kv_bytes: kv.bytes,
            seq: Some(seq),
            unconditioned,
            ..outcome(change, &document)
        })
    }

    /// Gives each chunk of a document the neighbours it has among the documents that are in now, computes its KV behind
    /// them and commits the document again. `None` if it has been removed or replaced since. Until then, and
    /// if this fails, its chunks keep the KV they had, or are computed when used; ingesting it again completes it.
    ///
    /// # Errors
    /// [`IngestError`]; the store then holds what it held before.
    pub async fn condition(
        &self,
        waiting: &Unconditioned,
    ) -> Result<Option<IngestOutcome>, IngestError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let (components, asked) = (self.components.clone(), waiting.clone());
        let choosing = move || neighbours::with_neighbours(&components, &asked);
        let Some(mut document) = blocking(choosing).await? else {
            return Ok(None);
        };
        let kv = if waiting.no_kv {
            NewKv::default()
        } else {
            self.compute_kv(&mut document).await?
        };
        let (document, seq) = self.commit_again(turn, document, kv.blobs).await?;
        Ok(Some(IngestOutcome {
            kv_bytes: kv.bytes,
            seq: Some(seq),
            ..outcome(Change::Replaced, &document)
        }))
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

    /// Commits a document whose chunks the index shows already, with the same vectors.
    async fn commit_again(
        &self,
        turn: OwnedMutexGuard<()>,
        document: Document,
        blobs: Vec<PendingBlob>,
    ) -> Result<(Document, u64), IngestError> {
        let store = Arc::clone(&self.components.store);
        blocking(move || {
            let _turn = turn;
            let seq = store.commit_document(&document, blobs)?;
            Ok((document, seq))
        })
        .await
    }
}

impl Prepared {
    /// What is left to do once it is committed without neighbours.
    fn waiting(&self, no_kv: bool) -> Unconditioned {
        Unconditioned {
            document_id: self.document.id.clone(),
            content: self.document.content_hash,
            no_kv,
        }
    }
}

/// The outcome for a document of which nothing is written.
fn outcome(change: Change, document: &Document) -> IngestOutcome {
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
        kv_bytes: 0,
        seq: None,
        unconditioned: None,
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
