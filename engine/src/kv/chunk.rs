//! A chunk's KV as bytes, and the trait through which layers of it reach the engine.

/// KV of one chunk, computed alone behind the conditioning prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkKv {
    pub token_ids: Vec<u32>,
    /// Per layer the K block (before RoPE) and the V block: `[n_tokens, kv_heads, head_dim]`,
    /// little-endian, in the stored dtype.
    pub layers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Offsets of the chunk's anchor tokens, ascending: what the policy `anchors` looks at.
    pub anchors: Vec<u32>,
}

/// Gives single layers of one chunk's KV.
///
/// The engine calls this from its read-ahead thread, for layers in ascending order, and may start
/// again from a lower layer when a prompt is replanned.
pub trait LayerSource: Send {
    /// Fills `k` and `v`, whose lengths are exactly one block, with verified bytes of `layer`.
    ///
    /// # Errors
    /// When the block cannot be read or does not verify. The engine then computes the chunk.
    fn read_layer(&mut self, layer: usize, k: &mut [u8], v: &mut [u8]) -> Result<(), SourceError>;

    /// Where the layers come from.
    fn tier(&self) -> Tier {
        Tier::Disk
    }
}

/// Where stored KV is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Host memory of this process.
    Memory,
    /// Files, in the page cache or not.
    Disk,
}

/// Why a layer could not be had.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    pub message: String,
}

/// A [`LayerSource`] over KV in memory.
pub struct MemorySource(pub std::sync::Arc<ChunkKv>);

impl LayerSource for MemorySource {
    fn read_layer(&mut self, layer: usize, k: &mut [u8], v: &mut [u8]) -> Result<(), SourceError> {
        let fail = |message: String| SourceError { message };
        let Some((from_k, from_v)) = self.0.layers.get(layer) else {
            return Err(fail(format!("layer {layer} is not in this chunk's KV")));
        };
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
