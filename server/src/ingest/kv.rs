//! The KV of one document: what the store lacks is computed, written, and noted in the chunks' records.

use std::collections::HashMap;
use std::sync::Arc;

use ragweave_engine::ChunkKv;
use ragweave_store::{BlobKey, Document, PendingBlob};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{IngestError, Ingestor, blocking, joined};
use crate::components::Components;
use crate::notes::notes_of;

/// What a document's KV came to.
#[derive(Default)]
pub(super) struct NewKv {
    pub(super) blobs: Vec<PendingBlob>,
    pub(super) bytes: u64,
}

impl Ingestor {
    /// Computes and writes the KV that the store lacks. A chunk is written while the next one is computed.
    pub(super) async fn compute_kv(&self, document: &mut Document) -> Result<NewKv, IngestError> {
        let bytes_before = self.counters.kv_bytes();
        let mut blobs = Vec::new();
        let mut writing: Option<JoinHandle<Result<PendingBlob, IngestError>>> = None;
        // Chunks of one document can be equal, and share their KV.
        let mut notes_made: HashMap<BlobKey, Vec<u8>> = HashMap::new();
        for chunk in &mut document.chunks {
            if notes_made.contains_key(&chunk.key) || self.has_blob(chunk.key).await? {
                self.counters.add(chunk.token_ids.len(), 0);
            } else {
                let Components { engine, prompt, .. } = &self.components;
                let (prefix, ids) = (prompt.conditioning_prefix(), chunk.token_ids.clone());
                let neighbours = chunk.conditioning_ids.clone();
                let kv = engine.chunk_kv_among(prefix, neighbours, ids).await?;
                notes_made.insert(chunk.key, notes_of(&kv));
                if let Some(previous) = writing.replace(self.write(chunk.key, kv)) {
                    blobs.push(joined(previous).await?);
                }
            }
            if let Some(notes) = notes_made.get(&chunk.key) {
                chunk.notes.clone_from(notes);
            }
        }
        if let Some(last) = writing {
            blobs.push(joined(last).await?);
        }
        let bytes = self.counters.kv_bytes() - bytes_before;
        Ok(NewKv { blobs, bytes })
    }

    async fn has_blob(&self, key: BlobKey) -> Result<bool, IngestError> {
        let store = Arc::clone(&self.components.store);
        blocking(move || Ok(store.contains_blob(&key)?)).await
    }

    fn write(&self, key: BlobKey, kv: ChunkKv) -> JoinHandle<Result<PendingBlob, IngestError>> {
        let components = self.components.clone();
        let counters = Arc::clone(&self.counters);
        spawn_blocking(move || {
            let blob = components.append_kv(key, &kv)?;
            let bytes: usize = kv.layers.iter().map(|(k, v)| k.len() + v.len()).sum();
            counters.add(kv.token_ids.len(), bytes as u64);
            Ok(blob)
        })
    }
}
