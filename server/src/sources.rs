//! Stored KV as the engine reads it: a `LayerSource` over a blob of the store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ragweave_engine::{HostBuffer, LayerSource, SourceError, Tier};
use ragweave_store::{BlobKey, BlobReader, Store, StoreError};

use crate::tier::MemoryTier;

/// A blob that was not read in time is not read again for this long, because each such read occupies a thread.
const AVOIDED: Duration = Duration::from_secs(300);

/// Blobs that the device did not return in time.
#[derive(Debug, Default)]
pub struct Unanswered {
    since: Mutex<HashMap<BlobKey, Instant>>,
}

impl Unanswered {
    /// Whether the blob should not be read now.
    pub fn contains(&self, key: &BlobKey) -> bool {
        let mut since = self.lock();
        since.retain(|_, since| since.elapsed() < AVOIDED);
        since.contains_key(key)
    }

    fn add(&self, key: BlobKey) {
        self.lock().insert(key, Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BlobKey, Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Layers of one stored chunk. A block that does not verify puts the blob in quarantine, so that later requests miss it
/// at once and its replacement is computed. A block that the device does not return is a miss for this request only,
/// since it may be readable next time.
pub struct BlobSource {
    store: Arc<Store>,
    reader: BlobReader,
    memory: Option<Arc<MemoryTier>>,
    unanswered: Option<Arc<Unanswered>>,
    /// Nanoseconds spent on reads that have not been reported to the memory tier yet.
    reading_ns: AtomicU64,
}

impl BlobSource {
    pub fn new(store: Arc<Store>, reader: BlobReader) -> Self {
        Self {
            store,
            reader,
            memory: None,
            unanswered: None,
            reading_ns: AtomicU64::new(0),
        }
    }

    /// The same, read through a memory tier, which supplies the layers it holds and is offered the others.
    pub fn through(self, memory: Arc<MemoryTier>) -> Self {
        memory.touch(&self.reader.key());
        Self {
            memory: Some(memory),
            ..self
        }
    }

    /// The same, but a read that does not finish in time is recorded in `unanswered`.
    pub fn noted_in(self, unanswered: Arc<Unanswered>) -> Self {
        Self {
            unanswered: Some(unanswered),
            ..self
        }
    }

    /// Quarantines a blob whose bytes are bad, so that no part of it is served again.
    fn quarantine(&self, message: &str) {
        let key = self.reader.key();
        if let Some(memory) = &self.memory {
            memory.remove(&key);
        }
        if let Err(error) = self.store.quarantine(&self.reader, message) {
            tracing::error!(%key, %error, "quarantine of a bad blob failed");
        }
    }
}

impl LayerSource for BlobSource {
    fn read_layer(&self, layer: usize, into: &mut HostBuffer) -> Result<(), SourceError> {
        let start = Instant::now();
        let read = self.reader.read_layer_into(layer, into.bytes_mut());
        let took = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.reading_ns.fetch_add(took, Ordering::Relaxed);
        read.map_err(|error| {
            let (key, message) = (self.reader.key(), error.to_string());
            tracing::warn!(%key, layer, %message, "stored KV is unusable; computing the chunk instead");
            if is_damage(&error) {
                self.quarantine(&message);
            }
            SourceError { message }
        })
    }

    fn resident(&self, layer: usize) -> Option<Arc<HostBuffer>> {
        self.memory.as_ref()?.get(&self.reader.key(), layer)
    }

    fn keep(&self, layer: usize, block: &Arc<HostBuffer>) {
        if let Some(memory) = &self.memory {
            let cost = self.reading_ns.swap(0, Ordering::Relaxed);
            memory.offer(&self.reader.key(), layer, block, cost);
        }
    }

    fn overdue(&self) {
        if let Some(unanswered) = &self.unanswered {
            unanswered.add(self.reader.key());
        }
    }

    fn tier(&self) -> Tier {
        Tier::Disk
    }

    fn expected_tier(&self) -> Tier {
        let n_layers = self.reader.geometry().n_layers as usize;
        let expected =
            |memory: &Arc<MemoryTier>| memory.expected_tier(&self.reader.key(), n_layers);
        self.memory.as_ref().map_or(self.tier(), expected)
    }
}

/// Whether the stored bytes themselves are bad, so that reading them again cannot help.
fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt { .. })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_blob_that_did_not_come_is_avoided_and_others_are_not() {
        let unanswered = Unanswered::default();
        let (late, other) = (BlobKey([1; 32]), BlobKey([2; 32]));
        unanswered.add(late);
        assert!(unanswered.contains(&late) && !unanswered.contains(&other));
        unanswered.lock().insert(late, Instant::now() - AVOIDED);
        assert!(!unanswered.contains(&late), "it may have come back");
    }

    #[test]
    fn only_bad_bytes_are_held_against_a_blob() {
        let path = PathBuf::from("a.seg");
        let corrupt = StoreError::Corrupt {
            path: path.clone(),
            offset: 4096,
            what: "checksum".to_owned(),
        };
        let io = StoreError::Io {
            path,
            source: io::ErrorKind::TimedOut.into(),
        };
        assert!(is_damage(&corrupt));
        assert!(!is_damage(&io));
    }
}
