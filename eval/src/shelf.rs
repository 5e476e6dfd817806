//! Chunk KV that prompts share, kept in memory up to a bound.

use std::collections::HashMap;
use std::sync::Arc;

use ragweave_engine::ChunkKv;

/// Most KV kept at once, in bytes; what does not fit is computed or read again.
const MAX_BYTES: usize = 1 << 30;

#[derive(Default)]
pub(crate) struct Shelf {
    kvs: HashMap<[u8; 32], Arc<ChunkKv>>,
    bytes: usize,
}

impl Shelf {
    pub(crate) fn get(&self, key: &[u8; 32]) -> Option<Arc<ChunkKv>> {
        self.kvs.get(key).cloned()
    }

    /// Keeps a chunk's KV and returns it; clears the shelf first if it would exceed the bound.
    pub(crate) fn keep(&mut self, key: [u8; 32], kv: ChunkKv) -> Arc<ChunkKv> {
        let bytes: usize = kv.layers.iter().map(|(k, v)| k.len() + v.len()).sum();
        if self.bytes + bytes > MAX_BYTES {
            *self = Self::default();
        }
        let kv = Arc::new(kv);
        self.bytes += bytes;
        self.kvs.insert(key, kv.clone());
        kv
    }
}
