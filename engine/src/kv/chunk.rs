//! A chunk's KV as bytes, and the trait through which layers of it reach the engine.

use std::sync::Arc;

use super::buffer::HostBuffer;

/// KV of one chunk, computed alone after the conditioning prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkKv {
    pub token_ids: Vec<u32>,
    /// Per layer the K block (before RoPE) and the V block: `[n_tokens, kv_heads, head_dim]`,
    /// little-endian, in the stored dtype.
    pub layers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Offsets of the chunk's anchor tokens, ascending, for the `anchors` policy.
    pub anchors: Vec<u32>,
}

/// A source of one chunk's KV, layer by layer.
///
/// The engine's reader threads call this, for layers in ascending order but several at once, from
/// the time the request is queued, and again from a lower layer when a prompt is replanned.
pub trait LayerSource: Send + Sync {
    /// Fills both blocks of `into`, whose span is that of the chunk's layers, with verified bytes of
    /// `layer`.
    ///
    /// # Errors
    /// When the blocks cannot be read or fail verification. The engine then computes the chunk.
    fn read_layer(&self, layer: usize, into: &mut HostBuffer) -> Result<(), SourceError>;

    /// The layer, if its verified bytes are in memory already; it is then used without a copy.
    fn resident(&self, _layer: usize) -> Option<Arc<HostBuffer>> {
        None
    }

    /// Offers what [`LayerSource::read_layer`] read. A source that clones the handle keeps the bytes
    /// for later requests; they are not written to again.
    fn keep(&self, _layer: usize, _block: &Arc<HostBuffer>) {}

    /// Called when a read took too long and was abandoned, though it may still be running.
    fn overdue(&self) {}

    /// Where [`LayerSource::read_layer`] reads from, for the statistics.
    fn tier(&self) -> Tier;

    /// Where most layers would come from now, counting [`LayerSource::resident`] ones as memory: a cost model asks
    /// this before it decides.
    fn expected_tier(&self) -> Tier {
        self.tier()
    }
}

/// What stored KV is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// This process's memory.
    Memory,
    /// A file, whether or not the system has it in its page cache.
    Disk,
}

/// Why a layer could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    pub message: String,
}

/// A [`LayerSource`] over KV in memory.
#[derive(Clone)]
pub struct MemorySource(pub Arc<ChunkKv>);

impl LayerSource for MemorySource {
    fn read_layer(&self, layer: usize, into: &mut HostBuffer) -> Result<(), SourceError> {
        let fail = |message: String| SourceError { message };
        let Some((from_k, from_v)) = self.0.layers.get(layer) else {
            return Err(fail(format!("layer {layer} is not in this chunk's KV")));
        };
        let (k, v) = into.blocks_mut();
        if (from_k.len(), from_v.len()) != (k.len(), v.len()) {
            return Err(fail(format!("layer {layer} has a block of another length")));
        }
        k.copy_from_slice(from_k);
        v.copy_from_slice(from_v);
        Ok(())
    }

    fn tier(&self) -> Tier {
        Tier::Memory
    }
}
