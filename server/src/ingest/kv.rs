//! The KV of one document: computes and writes the KV that is not in the store, and adds its notes to the chunks'
//! records.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use ragweave_engine::{ChunkKv, EngineError};
use ragweave_store::{BlobKey, ChunkRecord, Document, PendingBlob, Store, StoreError};
use tokio::time::timeout;

use super::error::IngestError;
use super::ingestor::{Ingestor, Patience};
use crate::blocking::Begun;
use crate::components::Components;
use crate::notes::notes_of;

/// The KV that was written for a document and is not committed yet.
#[derive(Default)]
pub(super) struct NewKv {
    pub(super) blobs: Vec<PendingBlob>,
    pub(super) bytes: u64,
    /// For each key written, the notes of its chunk. Chunks of one document can be equal, and then share their KV.
    notes: HashMap<BlobKey, Vec<u8>>,
}

impl NewKv {
    /// Whether every chunk of the document has its KV, here or in the store.
    pub(super) fn completes(&self, store: &Store, document: &Document) -> Result<bool, StoreError> {
        for chunk in &document.chunks {
            if !self.notes.contains_key(&chunk.key) && !store.contains_blob(&chunk.key)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Ingestor {
    /// Computes and writes the KV that is neither in the store nor in `kv`. A chunk is written while the next one is
    /// computed. The document's time limit starts at `since`.
    pub(super) async fn complete(
        &self,
        document: &mut Document,
        kv: &mut NewKv,
        since: Instant,
    ) -> Result<(), IngestError> {
        let mut writing: Option<Begun<PendingBlob, IngestError>> = None;
        for chunk in &mut document.chunks {
            if kv.notes.contains_key(&chunk.key) || self.has_blob(chunk.key).await? {
                self.counters.add(chunk.token_ids.len(), 0);
            } else {
                let computed = self.compute(chunk, since).await?;
                kv.notes.insert(chunk.key, notes_of(&computed));
                kv.bytes += kv_bytes(&computed);
                if let Some(previous) = writing.replace(self.write(chunk.key, computed)) {
                    kv.blobs.push(previous.join().await?);
                }
            }
            if let Some(notes) = kv.notes.get(&chunk.key) {
                chunk.notes.clone_from(notes);
            }
        }
        if let Some(last) = writing {
            kv.blobs.push(last.join().await?);
        }
        Ok(())
    }

    /// The KV of a chunk, once the engine has time for it.
    async fn compute(&self, chunk: &ChunkRecord, since: Instant) -> Result<ChunkKv, IngestError> {
        let Components { engine, prompt, .. } = &self.components;
        let (prefix, ids) = (prompt.conditioning_prefix(), chunk.token_ids.clone());
        let computing = engine.chunk_kv_among(prefix, chunk.conditioning_ids.clone(), ids);
        match self.patience {
            Some(patience) => in_time(patience, since, computing).await,
            None => Ok(computing.await?),
        }
    }

    async fn has_blob(&self, key: BlobKey) -> Result<bool, IngestError> {
        let store = Arc::clone(&self.components.store);
        self.blocking(move || Ok(store.contains_blob(&key)?)).await
    }

    fn write(&self, key: BlobKey, kv: ChunkKv) -> Begun<PendingBlob, IngestError> {
        let components = self.components.clone();
        let counters = Arc::clone(&self.counters);
        self.begin(move || {
            let blob = components.append_kv(key, &kv)?;
            counters.add(kv.token_ids.len(), kv_bytes(&kv));
            Ok(blob)
        })
    }
}

/// Bytes of a chunk's KV over all layers, without the padding of the record.
fn kv_bytes(kv: &ChunkKv) -> u64 {
    let layers = kv.layers.iter();
    layers.map(|(k, v)| (k.len() + v.len()) as u64).sum()
}

async fn in_time(
    Patience { chunk, document }: Patience,
    since: Instant,
    computing: impl Future<Output = Result<ChunkKv, EngineError>>,
) -> Result<ChunkKv, IngestError> {
    let left = document.saturating_sub(since.elapsed());
    match timeout(chunk.min(left), computing).await {
        Ok(kv) => Ok(kv?),
        Err(_) if left < chunk => Err(IngestError::TooSlow { limit: document }),
        Err(_) => Err(IngestError::EngineBusy { limit: chunk }),
    }
}
