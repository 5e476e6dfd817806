//! The end of an ingest: completes the KV, then commits and indexes, serialised with all other changes.
//!
//! The document, or KV that it shares with another one, may have changed while its own KV was computed. Both are
//! checked again under the commit lock.

use std::sync::{Arc, PoisonError, RwLockWriteGuard};
use std::time::Instant;

use super::error::IngestError;
use super::ingestor::Ingestor;
use super::kv::NewKv;
use super::outcome::Change;
use super::prepared::Prepared;
use crate::components::Components;
use crate::search_index::SearchIndex;

/// How often the KV of a document is completed again because other documents, whose chunks it shares, were removed in
/// the meantime. After that the document is committed as it is: a chunk without KV is computed when it is used.
const MAX_COMPLETIONS: usize = 3;

/// How a document was committed.
pub(super) struct Committed {
    pub(super) change: Change,
    /// `None` if another call has committed the same version in the meantime.
    pub(super) seq: Option<u64>,
    pub(super) kv_bytes: u64,
}

/// How one attempt to commit ended.
enum Attempt {
    Done {
        change: Change,
        seq: Option<u64>,
    },
    /// KV that was in the store when it was looked up is gone.
    Incomplete(Box<(Prepared, NewKv)>),
}

impl Ingestor {
    /// Computes the missing KV, unless that is left to the first use (`no_kv`), and commits.
    pub(super) async fn finish(
        &self,
        mut prepared: Prepared,
        no_kv: bool,
    ) -> Result<Committed, IngestError> {
        let since = Instant::now();
        let mut kv = NewKv::default();
        let mut completions = if no_kv { 0 } else { MAX_COMPLETIONS };
        loop {
            if completions > 0 {
                let document = &mut prepared.document;
                self.complete(document, &mut kv, since).await?;
            }
            completions = completions.saturating_sub(1);
            let kv_bytes = kv.bytes;
            match self.commit(prepared, kv, completions > 0).await? {
                Attempt::Done { change, seq } => {
                    return Ok(Committed {
                        change,
                        seq,
                        kv_bytes,
                    });
                }
                Attempt::Incomplete(rest) => (prepared, kv) = *rest,
            }
        }
    }

    /// Commits the document in place of the version that was seen, then adds it to the index. If all KV
    /// `must_be_there`, nothing is committed as long as some is missing.
    async fn commit(
        &self,
        prepared: Prepared,
        kv: NewKv,
        must_be_there: bool,
    ) -> Result<Attempt, IngestError> {
        self.in_turn(move |components| {
            let (store, document) = (&components.store, &prepared.document);
            let stored = store.content_hash(&document.id)?;
            if stored != prepared.seen {
                let is_the_same = stored == Some(document.content_hash);
                return is_the_same
                    .then_some(UNCHANGED)
                    .ok_or(IngestError::ChangedMeanwhile);
            }
            if must_be_there && !kv.completes(store, document)? {
                return Ok(Attempt::Incomplete(Box::new((prepared, kv))));
            }
            let change = stored.map_or(Change::Added, |_| Change::Replaced);
            let seq = Some(store.commit_document(document, kv.blobs)?);
            show(components, prepared)?;
            Ok(Attempt::Done { change, seq })
        })
        .await
    }

    /// Removes a document from the store, then from the index; `false` if there is no document with this id.
    pub(super) async fn remove(&self, id: String) -> Result<bool, IngestError> {
        self.in_turn(move |components| {
            let was_there = components.store.remove_document(&id)?;
            write_index(components).remove(&id);
            Ok(was_there)
        })
        .await
    }

    /// Changes store and index on a thread where blocking is allowed, after all earlier changes. The change is finished
    /// even if the caller has gone.
    async fn in_turn<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Components) -> Result<T, IngestError> + Send + 'static,
    ) -> Result<T, IngestError> {
        let (components, turn) = (self.components.clone(), Arc::clone(&self.turn));
        self.blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            change(&components)
        })
        .await
    }
}

const UNCHANGED: Attempt = Attempt::Done {
    change: Change::Unchanged,
    seq: None,
};

/// Adds a committed document to the index: the whole document, or nothing if that fails.
fn show(components: &Components, prepared: Prepared) -> Result<(), IngestError> {
    let Prepared {
        document,
        embeddings,
        ..
    } = prepared;
    let mut index = write_index(components);
    let Some(embeddings) = embeddings else {
        index.set_version(&document.id, document.content_hash);
        return Ok(());
    };
    let shown = index.replace(&document, embeddings);
    if shown.is_err() {
        index.remove(&document.id);
    }
    Ok(shown?)
}

fn write_index(components: &Components) -> RwLockWriteGuard<'_, SearchIndex> {
    let index = components.index.write();
    index.unwrap_or_else(PoisonError::into_inner)
}
