//! One document into the store: split, embed, compute missing chunk KV, commit, index. The CLI and the RPC call the
//! same functions, so offline and online ingest cannot drift apart.
//!
//! A document becomes visible as a whole, in one commit, after its KV is durable. Whatever stops an ingest before that
//! leaves the old version, or nothing. With neighbours configured there are two commits: the first, without KV, makes
//! the document one that others can have as a neighbour; the second brings its KV ([`neighbours`]).
//!
//! Nothing is locked while KV is computed, which may take long on a busy engine. Commits take turns, and each checks
//! once more what was true when its work began ([`commit`]).

use std::any::Any;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ragweave_retriever::{Embedding, SourceDocument};
use ragweave_store::{ChunkRecord, Document};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::components::Components;
use crate::search_index::Version;

mod commit;
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

use commit::Committed;
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

/// How long an ingest waits for the engine, which serves requests first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the KV of one chunk.
    pub chunk: Duration,
    /// For all KV of one document.
    pub document: Duration,
}

/// Ingests and deletes documents, several at a time. Clones share everything.
#[derive(Clone)]
pub struct Ingestor {
    components: Components,
    counters: Arc<IngestCounters>,
    /// `None` where nobody else uses the engine.
    patience: Option<Patience>,
    /// Kept until all work has ended that was begun on the blocking pool, also when the caller has gone.
    place: Option<Arc<dyn Any + Send + Sync>>,
    /// Commits take turns: two versions of one document must not interleave between store and index. Taken only where
    /// blocking is allowed, and never while the engine is waited for.
    turn: Arc<Mutex<()>>,
}

/// A document that is ready to be committed, but for its KV.
struct Prepared {
    document: Document,
    /// One per chunk, `None` where there is nothing to find. Absent where the index shows the same vectors already.
    embeddings: Option<Vec<Option<Embedding>>>,
    /// The version it is to replace.
    seen: Option<Version>,
}

/// What a first look at a document finds.
enum Look {
    /// There is nothing to do, or only to wait for neighbours.
    Known(IngestOutcome),
    New(Prepared),
}

impl Ingestor {
    pub fn new(components: &Components) -> Self {
        Self {
            components: components.clone(),
            counters: Arc::default(),
            patience: None,
            place: None,
            turn: Arc::default(),
        }
    }

    /// The same beside requests.
    pub fn with_patience(self, patience: Patience) -> Self {
        Self {
            patience: Some(patience),
            ..self
        }
    }

    /// The same for a caller that may go at any time: `place` is dropped once the work has ended that it began.
    pub fn holding(&self, place: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            place: Some(place),
            ..self.clone()
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
    /// [`IngestError`]; the store then holds what it held before. `ChangedMeanwhile` where another call has replaced or
    /// deleted the document since this one began.
    pub async fn ingest(
        &self,
        source: SourceDocument,
        options: &IngestOptions,
    ) -> Result<IngestOutcome, IngestError> {
        let no_kv = options.no_kv;
        let components = self.components.clone();
        let looking = self.blocking(move || look(&components, source, no_kv));
        let prepared = match looking.await? {
            Look::Known(outcome) => return Ok(outcome),
            Look::New(prepared) => prepared,
        };
        let is_conditioned = self.components.config.ingest.neighbours > 0;
        let unconditioned = is_conditioned.then(|| prepared.waiting(no_kv));
        let unfinished = outcome(Change::Added, &prepared.document);
        let Committed {
            change,
            seq,
            kv_bytes,
        } = self.finish(prepared, no_kv || is_conditioned).await?;
        Ok(IngestOutcome {
            change,
            kv_bytes,
            seq,
            unconditioned,
            ..unfinished
        })
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
        let choosing = self.blocking(move || neighbours::with_neighbours(&components, &asked));
        let Some(prepared) = choosing.await? else {
            return Ok(None);
        };
        let unfinished = outcome(Change::Replaced, &prepared.document);
        match self.finish(prepared, waiting.no_kv).await {
            Ok(Committed { seq, kv_bytes, .. }) => Ok(Some(IngestOutcome {
                kv_bytes,
                seq,
                ..unfinished
            })),
            Err(IngestError::ChangedMeanwhile) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a document, its vectors and its KV. `false` when there is none of this id.
    ///
    /// # Errors
    /// [`IngestError::Store`]; the document is then still there.
    pub async fn delete(&self, document_id: &str) -> Result<bool, IngestError> {
        self.remove(document_id.to_owned()).await
    }

    /// Runs disk or tokenizer work where blocking is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, IngestError> + Send + 'static,
    ) -> Result<T, IngestError> {
        joined(self.begin(work)).await
    }

    /// The same as a task, which goes on whether or not it is waited for.
    fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, IngestError> + Send + 'static,
    ) -> JoinHandle<Result<T, IngestError>> {
        let place = self.place.clone();
        spawn_blocking(move || {
            let _place = place;
            work()
        })
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

async fn joined<T>(task: JoinHandle<Result<T, IngestError>>) -> Result<T, IngestError> {
    task.await.unwrap_or_else(|error| {
        Err(IngestError::Panicked {
            message: error.to_string(),
        })
    })
}
