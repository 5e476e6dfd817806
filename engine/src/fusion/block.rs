//! The stored KV of one layer of one chunk: what to read, and what was read.

use std::ops::Range;
use std::sync::Arc;

use super::interrupt::BadBlock;
use crate::kv::{BlockSpan, BufferRing, HostBuffer, LayerSource, Lent, SourceError, Tier};

/// One source per chunk of the prompt; `None` if the chunk is missed.
pub(crate) type Sources = Vec<Option<Arc<dyn LayerSource>>>;

/// Converts the sources that callers pass in.
pub(crate) fn shared(sources: Vec<Option<Box<dyn LayerSource>>>) -> Sources {
    sources
        .into_iter()
        .map(|source| source.map(Arc::from))
        .collect()
}

/// The blocks of one layer of one chunk to read.
#[derive(Debug, Clone)]
pub(super) struct BlockRead {
    pub layer: usize,
    pub chunk: usize,
    /// The chunk's positions in the prompt.
    pub rows: Range<usize>,
    pub span: BlockSpan,
}

/// The stored KV of one layer of one chunk. Its memory is reused once this is dropped.
pub(crate) struct LoadedBlock {
    /// The chunk's positions in the prompt.
    pub rows: Range<usize>,
    pub(super) tier: Tier,
    block: Arc<Lent>,
}

impl LoadedBlock {
    /// The K block, before RoPE, in the stored dtype.
    pub(crate) fn k(&self) -> &[u8] {
        self.block.k()
    }

    /// The V block in the stored dtype.
    pub(crate) fn v(&self) -> &[u8] {
        self.block.v()
    }

    /// Both blocks, each with its padding, for a device that copies them later.
    pub(crate) fn share(&self) -> bytes::Bytes {
        Lent::share(&self.block)
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.k().len() + self.v().len()) as u64
    }
}

impl BlockRead {
    /// Gets the blocks: from memory if the source has them there, otherwise read into a buffer of the
    /// ring.
    pub(super) fn run(
        &self,
        source: Option<&dyn LayerSource>,
        ring: &Arc<BufferRing>,
    ) -> Result<LoadedBlock, SourceError> {
        let source = source.ok_or_else(|| SourceError {
            message: "the chunk has no source".into(),
        })?;
        let resident = source.resident(self.layer);
        if let Some(block) = resident.filter(|block| block.span() == self.span) {
            return Ok(self.loaded(Tier::Memory, block, ring));
        }
        let mut block = ring.take(self.span);
        let buffer = Arc::get_mut(&mut block).ok_or_else(|| SourceError {
            message: "a buffer to read into is in use".into(),
        })?;
        match source.read_layer(self.layer, buffer) {
            Ok(()) => source.keep(self.layer, &block),
            Err(error) => {
                ring.give(block);
                return Err(error);
            }
        }
        Ok(self.loaded(source.tier(), block, ring))
    }

    fn loaded(&self, tier: Tier, block: Arc<HostBuffer>, ring: &Arc<BufferRing>) -> LoadedBlock {
        LoadedBlock {
            rows: self.rows.clone(),
            tier,
            block: Arc::new(Lent::new(block, ring)),
        }
    }

    pub(super) fn bad(&self, error: SourceError) -> BadBlock {
        BadBlock {
            chunk: self.chunk,
            layer: self.layer,
            error,
        }
    }
}
