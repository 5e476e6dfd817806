//! What the store holds: the chunks to combine, and its size.

use ragweave_store::{Store, StoreError};
use serde::{Deserialize, Serialize};

/// Size of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoreBytes {
    /// All segment files.
    pub(super) total_bytes: u64,
    /// Of these, the KV that chunks refer to.
    pub(super) live_bytes: u64,
    /// KV records that a lookup can find.
    pub(super) blobs: u64,
}

impl StoreBytes {
    pub(super) fn of(store: &Store) -> Result<Self, StoreError> {
        let stats = store.stats()?;
        Ok(Self {
            total_bytes: stats.total_bytes,
            live_bytes: stats.live_bytes,
            blobs: stats.blobs,
        })
    }
}

/// Ids of all chunks, in the store's order.
pub(super) fn chunk_ids(store: &Store) -> Result<Vec<String>, StoreError> {
    let mut ids = Vec::new();
    store.for_each_vector(|row| {
        ids.push(row.chunk_id);
        Ok(())
    })?;
    Ok(ids)
}
