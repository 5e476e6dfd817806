//! One document into the store: split, embed, compute missing chunk KV, commit, index. The CLI and the RPC call the
//! same functions, so offline and online ingest cannot drift apart.
//!
//! A document becomes visible as a whole, in one commit, after its KV is durable. Whatever stops an ingest before that
//! leaves the old version, or nothing. With neighbours configured there are two commits: the first, without KV, makes
//! the document one that others can have as a neighbour; the second brings its KV ([`neighbours`]).
//!
//! Nothing is locked while KV is computed, which may take long on a busy engine. Commits take turns, and each checks
//! once more what was true when its work began.

use std::sync::{Arc, Mutex, PoisonError, RwLockWriteGuard};
use std::time::Duration;

use ragweave_retriever::{Embedding, SourceDocument};
use ragweave_store::{ChunkRecord, Document};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::components::Components;
use crate::search_index::{SearchIndex, Version};

mod counters;
mod error;
mod kv;
mod neighbours;
mod prepare;
mod rules;

pub use counters::IngestCounters;
pub use error::IngestError;
pub use neighbours::Unconditioned;
pub use rules::BadMetadata;
pub(crate) use rules::check;

use kv::NewKv;
use prepare::Known;

/// Times the KV of a document is completed because other documents, whose chunks it shares, were removed meanwhile. After
/// that it is committed as it is: a chunk without KV is computed when it is used.
const MAX_COMPLETIONS: usize = 3;

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

/// Ingests and deletes documents, several at a time; share it in an `Arc`.
pub struct Ingestor {
    components: Components,
    counters: Arc<IngestCounters>,
    /// Longest wait for the KV of one chunk; `None` where nobody else uses the engine.
    max_engine_wait: Option<Duration>,
    /// Commits take turns: two versions of one document must not interleave between store and index. Taken only where
    /// blocking is allowed, and never while the engine is waited for.
    turn: Arc<Mutex<()>>,
}

/// A document that is split and embedded.
struct Prepared {
    document: Document,
    /// One per chunk; `None` where there is nothing to find.
    embeddings: Vec<Option<Embedding>>,
}

/// What a first look at a document comes to.
enum Look {
    /// There is nothing to do, or only to wait for neighbours.
    Known(IngestOutcome),
    New(Prepared),
}

/// What a commit comes to.
enum Commit {
    Done {
        change: Change,
        seq: u64,
    },
    /// KV that was in the store when it was looked for is there no more.
    Incomplete(Prepared, NewKv),
}

impl Ingestor {
    pub fn new(components: &Components) -> Self {
        Self {
            components: components.clone(),
            counters: Arc::default(),
            max_engine_wait: None,
            turn: Arc::default(),
        }
    }

    /// The same beside requests, which the engine serves first: no chunk's KV is waited for longer than this.
    pub fn waiting_at_most(self, limit: Duration) -> Self {
        Self {
            max_engine_wait: Some(limit),
            ..self
        }
    }

    /// Running totals, for progress displays.
    pub fn counters(&self) -> &Arc<IngestCounters> {
        &self.counters
    }

    /// Ingests one document; returns after its commit is durable and the index shows it. Dropping the future before
    /// the commit has begun leaves the store as it was; a commit that has begun is finished, its index entries too.
    /// Of two versions that are ingested at the same time, the one committed last stays.
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
        let no_kv = options.no_kv;
        let components = self.components.clone();
        let mut prepared = match blocking(move || look(&components, source, no_kv)).await? {
            Look::Known(outcome) => return Ok(outcome),
            Look::New(prepared) => prepared,
        };
        let is_conditioned = self.components.config.ingest.neighbours > 0;
        let unconditioned = is_conditioned.then(|| prepared.waiting(no_kv));
        let unfinished = outcome(Change::Added, &prepared.document);
        let mut kv = NewKv::default();
        let mut completions = if no_kv || is_conditioned {
            0
        } else {
            MAX_COMPLETIONS
        };
        loop {
            if completions > 0 {
                self.complete(&mut prepared.document, &mut kv).await?;
            }
            completions = completions.saturating_sub(1);
            let kv_bytes = kv.bytes;
            match self.commit(prepared, kv, completions > 0).await? {
                Commit::Done { change, seq } => {
                    return Ok(IngestOutcome {
                        change,
                        kv_bytes,
                        seq: Some(seq),
                        unconditioned,
                        ..unfinished
                    });
                }
                Commit::Incomplete(again, rest) => (prepared, kv) = (again, rest),
            }
        }
    }

    /// Gives each chunk of a document the neighbours it has among the documents that are in now, computes its KV after
    /// them and commits the document again. `None` if it has been removed or replaced since. Until then, and
    /// if this fails, its chunks keep the KV they had, or are computed when used; ingesting it again completes it.
    ///
    /// # Errors
    /// [`IngestError`]; the store then holds what it held before.
    pub async fn condition(
        &self,
        waiting: &Unconditioned,
    ) -> Result<Option<IngestOutcome>, IngestError> {
        let (components, asked) = (self.components.clone(), waiting.clone());
        let choosing = move || neighbours::with_neighbours(&components, &asked);
        let Some((mut document, version)) = blocking(choosing).await? else {
            return Ok(None);
        };
        let mut kv = NewKv::default();
        if !waiting.no_kv {
            self.complete(&mut document, &mut kv).await?;
        }
        let kv_bytes = kv.bytes;
        let unfinished = outcome(Change::Replaced, &document);
        let seq = self.commit_again(document, version, kv).await?;
        Ok(seq.map(|seq| IngestOutcome {
            kv_bytes,
            seq: Some(seq),
            ..unfinished
        }))
    }

    /// Removes a document, its vectors and its KV. `false` when there is none of this id.
    ///
    /// # Errors
    /// [`IngestError::Store`]; the document is then still there.
    pub async fn delete(&self, document_id: &str) -> Result<bool, IngestError> {
        let id = document_id.to_owned();
        self.in_turn(move |components| {
            let was_there = components.store.remove_document(&id)?;
            write_index(components).remove(&id);
            Ok(was_there)
        })
        .await
    }

    /// Commits the document, then shows it in the index. Where all KV `must_be_there`, nothing is committed as long as
    /// some is missing.
    async fn commit(
        &self,
        prepared: Prepared,
        kv: NewKv,
        must_be_there: bool,
    ) -> Result<Commit, IngestError> {
        self.in_turn(move |components| {
            let store = &components.store;
            if must_be_there && !kv.completes(store, &prepared.document)? {
                return Ok(Commit::Incomplete(prepared, kv));
            }
            let Prepared {
                document,
                embeddings,
            } = prepared;
            let change = match store.content_hash(&document.id)? {
                Some(_) => Change::Replaced,
                None => Change::Added,
            };
            let seq = store.commit_document(&document, kv.blobs)?;
            write_index(components).replace(&document, embeddings)?;
            Ok(Commit::Done { change, seq })
        })
        .await
    }

    /// Commits a document whose chunks the index shows already, with the same vectors; `None` where the store holds
    /// another version by now than the one it was made from.
    async fn commit_again(
        &self,
        document: Document,
        made_from: Version,
        kv: NewKv,
    ) -> Result<Option<u64>, IngestError> {
        self.in_turn(move |components| {
            if components.store.content_hash(&document.id)? != Some(made_from) {
                return Ok(None);
            }
            let seq = components.store.commit_document(&document, kv.blobs)?;
            write_index(components).set_version(&document.id, document.content_hash);
            Ok(Some(seq))
        })
        .await
    }

    /// Changes store and index where blocking is allowed, after the changes that came before. It is finished although
    /// the caller may have gone.
    async fn in_turn<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Components) -> Result<T, IngestError> + Send + 'static,
    ) -> Result<T, IngestError> {
        let (components, turn) = (self.components.clone(), Arc::clone(&self.turn));
        blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            change(&components)
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

/// Whether there is anything to do for a document, and what.
fn look(components: &Components, source: SourceDocument, no_kv: bool) -> Result<Look, IngestError> {
    prepare::check(components, &source)?;
    let earlier = match prepare::known_version(components, &source, no_kv)? {
        None => None,
        Some(Known::Outdated(earlier)) => Some(earlier),
        Some(Known::Unchanged(document)) => {
            return Ok(Look::Known(outcome(Change::Unchanged, &document)));
        }
        Some(Known::Unconditioned(document, waiting)) => {
            return Ok(Look::Known(IngestOutcome {
                unconditioned: Some(waiting),
                ..outcome(Change::Replaced, &document)
            }));
        }
    };
    prepare::prepare(components, source, earlier.as_ref()).map(Look::New)
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

fn write_index(components: &Components) -> RwLockWriteGuard<'_, SearchIndex> {
    let index = components.index.write();
    index.unwrap_or_else(PoisonError::into_inner)
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
