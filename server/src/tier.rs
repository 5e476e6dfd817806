//! The memory tier: a cache in front of the store for KV blocks of chunks that are requested repeatedly.
//!
//! Only blocks that were read and verified for a request enter, in the buffers they were read into, so keeping them
//! copies nothing and delays no first token. A lookup still goes through the store, which decides what may be served: a
//! key that the store does not find is not looked up here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ragweave_engine::{HostBuffer, Tier};
use ragweave_store::BlobKey;

mod history;
mod shelf;

use shelf::Shelf;

/// A byte budget of chunk KV. Which chunks stay is decided in [`shelf`].
pub struct MemoryTier {
    state: Mutex<State>,
}

struct State {
    shelf: Shelf<Arc<HostBuffer>>,
    served_blocks: u64,
    served_bytes: u64,
    evicted_chunks: u64,
}

/// What the tier holds now, and its counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TierStats {
    pub budget_bytes: u64,
    pub bytes: u64,
    pub chunks: u64,
    /// Layers of chunks that were served from memory.
    pub served_blocks: u64,
    pub served_bytes: u64,
    pub evicted_chunks: u64,
}

impl MemoryTier {
    /// An empty tier; with a budget of 0 it stays empty.
    pub fn new(budget_bytes: u64) -> Self {
        let state = State {
            shelf: Shelf::new(budget_bytes),
            served_blocks: 0,
            served_bytes: 0,
            evicted_chunks: 0,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Records that a request asks for the chunk.
    pub fn touch(&self, key: &BlobKey) {
        self.lock().shelf.touch(key);
    }

    /// A layer of the chunk, if it is here.
    pub fn get(&self, key: &BlobKey, layer: usize) -> Option<Arc<HostBuffer>> {
        let mut state = self.lock();
        let block = Arc::clone(state.shelf.get(key, layer)?);
        state.served_blocks += 1;
        state.served_bytes += block.span().payload_bytes() as u64;
        Some(block)
    }

    /// Whether more than half of a chunk's layers are held. All of them rarely are, since policies do not read the
    /// first ones.
    pub fn holds_most(&self, key: &BlobKey, n_layers: usize) -> bool {
        2 * self.lock().shelf.n_layers(key) > n_layers
    }

    /// Where most of a chunk's layers would come from if it is stored.
    pub fn expected_tier(&self, key: &BlobKey, n_layers: usize) -> Tier {
        match self.holds_most(key, n_layers) {
            true => Tier::Memory,
            false => Tier::Disk,
        }
    }

    /// Offers a verified layer that took `cost` nanoseconds to read. It is kept if that is worth its bytes.
    pub fn offer(&self, key: &BlobKey, layer: usize, block: &Arc<HostBuffer>, cost: u64) {
        let bytes = block.capacity() as u64;
        let mut state = self.lock();
        let evicted = state.shelf.offer(key, layer, (block, bytes), cost);
        state.evicted_chunks += evicted.len() as u64;
        drop(state);
        drop(evicted); // freed outside of the lock
    }

    /// Removes a chunk that must no longer be served.
    pub fn remove(&self, key: &BlobKey) {
        let removed = self.lock().shelf.remove(key);
        drop(removed);
    }

    pub fn stats(&self) -> TierStats {
        let state = self.lock();
        TierStats {
            budget_bytes: state.shelf.budget(),
            bytes: state.shelf.bytes(),
            chunks: state.shelf.len() as u64,
            served_blocks: state.served_blocks,
            served_bytes: state.served_bytes,
            evicted_chunks: state.evicted_chunks,
        }
    }

    /// The shelf is consistent at every point where its code could panic, so a poisoned lock can be used.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ragweave_engine::{BlockSpan, HostBuffer};

    use super::*;

    #[test]
    fn most_of_a_chunk_is_more_than_half_of_its_layers() {
        let tier = MemoryTier::new(1 << 20);
        let key = BlobKey([1; 32]);
        tier.touch(&key);
        let block = Arc::new(HostBuffer::new(BlockSpan::default()));
        for layer in [1, 2] {
            tier.offer(&key, layer, &block, 1);
        }
        assert!(!tier.holds_most(&key, 4));
        tier.offer(&key, 3, &block, 1);
        assert!(tier.holds_most(&key, 4));
        assert!(!tier.holds_most(&BlobKey([2; 32]), 4));
    }
}
