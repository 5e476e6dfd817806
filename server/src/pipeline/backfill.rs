//! Computes the KV that a request missed, for later requests: after the ids in the chunk's record, one chunk at a time,
//! from a bounded queue. Chunks that do not fit the queue are dropped and counted; no request waits for a backfill.

use ragweave_engine::ChunkKv;
use ragweave_store::BlobKey;
use tokio::sync::{mpsc, watch};

use super::error::AnswerError;
use super::passage::Passage;
use crate::blocking;
use crate::components::Components;

/// Chunks that may wait for their KV.
const MAX_WAITING_FILLS: usize = 256;

/// A chunk without usable KV.
#[derive(Debug, Clone)]
struct Fill {
    chunk_id: String,
    token_ids: Vec<u32>,
    conditioning_ids: Vec<u32>,
    key: BlobKey,
}

/// Outcomes of missed chunks since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FillCounts {
    pub done: u64,
    /// Not computed, because the KV is stored by now, the chunk was removed, or the store accepts no writes.
    pub skipped: u64,
    /// The queue was full.
    pub dropped: u64,
    pub failed: u64,
}

/// The sending end of the queue. The worker ends when the last sender is dropped.
pub(super) struct Backfill {
    queue: mpsc::Sender<Fill>,
    counts: watch::Sender<FillCounts>,
}

impl Fill {
    fn of(passage: &Passage) -> Self {
        Self {
            chunk_id: passage.chunk_id.clone(),
            token_ids: passage.token_ids.clone(),
            conditioning_ids: passage.conditioning_ids.clone(),
            key: passage.key,
        }
    }
}

impl Backfill {
    /// Starts the worker on the current runtime.
    pub(super) fn start(components: Components) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING_FILLS);
        let counts = watch::Sender::new(FillCounts::default());
        tokio::spawn(work(components, waiting, counts.clone()));
        Self { queue, counts }
    }

    /// Queues what fits and counts the rest. Never waits.
    pub(super) fn offer<'p>(&self, missed: impl Iterator<Item = &'p Passage>) {
        for passage in missed {
            if self.queue.try_send(Fill::of(passage)).is_err() {
                self.counts.send_modify(|counts| counts.dropped += 1);
            }
        }
    }

    pub(super) fn counts(&self) -> watch::Receiver<FillCounts> {
        self.counts.subscribe()
    }
}

async fn work(
    components: Components,
    mut waiting: mpsc::Receiver<Fill>,
    counts: watch::Sender<FillCounts>,
) {
    while let Some(fill) = waiting.recv().await {
        let chunk_id = fill.chunk_id.clone();
        let outcome = compute(&components, fill).await;
        counts.send_modify(|counts| match outcome {
            Ok(true) => counts.done += 1,
            Ok(false) => counts.skipped += 1,
            Err(_) => counts.failed += 1,
        });
        if let Err(error) = outcome {
            tracing::warn!(chunk = chunk_id, %error, "computing missing KV failed");
        }
    }
}

/// Computes and commits the KV of one chunk; `false` if there was no need.
async fn compute(components: &Components, fill: Fill) -> Result<bool, AnswerError> {
    let components = components.clone();
    let (asking, asked) = (components.clone(), fill.clone());
    if !blocking::run(move || is_wanted(&asking, &asked)).await? {
        return Ok(false);
    }
    let (prefix, neighbours) = (
        components.prompt.conditioning_prefix(),
        fill.conditioning_ids,
    );
    let kv = components
        .engine
        .chunk_kv_among(prefix, neighbours, fill.token_ids);
    let kv = kv.await?;
    blocking::run(move || commit(&components, fill.key, &kv)).await?;
    Ok(true)
}

/// Whether the KV is still worth computing. It is not if it has been stored since, if the document has been replaced or
/// removed, or if the store is full or foreign.
fn is_wanted(components: &Components, fill: &Fill) -> Result<bool, AnswerError> {
    // A foreign store's metadata names other keys: KV written under ours would never be reclaimed.
    if components.is_foreign
        || !can_be_written(components, fill.token_ids.len())?
        || components.store.contains_blob(&fill.key)?
    {
        return Ok(false);
    }
    // The key covers the ids of the chunk and of everything before it.
    let chunk = components.store.chunk(&fill.chunk_id)?;
    Ok(chunk.is_some_and(|chunk| chunk.record.key == fill.key))
}

/// Whether the store would accept the KV of a chunk now. KV that it would refuse is not worth computing.
fn can_be_written(components: &Components, n_tokens: usize) -> Result<bool, AnswerError> {
    let identity = &components.engine.model().identity;
    let blob_bytes = identity.chunk_bytes(n_tokens) as u64;
    let needed_bytes = components
        .config
        .store
        .min_free_bytes
        .saturating_add(blob_bytes);
    let stats = components.store.stats()?;
    Ok(stats.read_only.is_none() && stats.free_bytes >= needed_bytes)
}

fn commit(components: &Components, key: BlobKey, kv: &ChunkKv) -> Result<(), AnswerError> {
    let blob = components.append_kv(key, kv)?;
    components.store.commit_blobs(vec![blob])?;
    Ok(())
}
