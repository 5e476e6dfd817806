//! One prompt's stored KV on its way to the engine thread: which blocks, in which order, and what
//! came of them. The reading itself is done by the engine's [`Readers`].

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plan::FusionPlan;
use super::prefill::{Interrupt, StopCheck};
use super::readers::{Readers, Ticket};
use super::rows::layer_reads;
use crate::kv::{
    BlockSpan, BufferRing, HostBuffer, KvIdentity, LayerSource, Lent, SourceError, Tier,
};

/// One source per chunk of the prompt; `None` where the chunk is missed.
pub(crate) type Sources = Vec<Option<Arc<dyn LayerSource>>>;

/// Sources as callers give them.
pub(crate) fn shared(sources: Vec<Option<Box<dyn LayerSource>>>) -> Sources {
    sources
        .into_iter()
        .map(|source| source.map(Arc::from))
        .collect()
}

/// What to read of one layer.
#[derive(Debug, Clone)]
pub(crate) struct LayerReads {
    pub layer: usize,
    /// Chunk index and its positions, ascending.
    pub chunks: Vec<(usize, Range<usize>)>,
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

/// The stored KV of one layer of one chunk. Its memory goes round when this is dropped.
pub(crate) struct LoadedBlock {
    /// The chunk's positions in the prompt.
    pub rows: Range<usize>,
    tier: Tier,
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

    /// Both with the padding behind each, for a device that copies them later.
    pub(crate) fn share(&self) -> bytes::Bytes {
        Lent::share(&self.block)
    }

    fn bytes(&self) -> u64 {
        (self.k().len() + self.v().len()) as u64
    }
}

/// A block that could not be had.
#[derive(Debug, Clone)]
pub(crate) struct BadBlock {
    pub chunk: usize,
    pub layer: usize,
    pub error: SourceError,
}

impl BlockRead {
    /// Gets the blocks: from memory where the source has them there, else read into a buffer of the
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

/// What loading came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LoadReport {
    /// Time the reader threads spent on these blocks, added up.
    pub load: Duration,
    /// Time the caller waited for blocks.
    pub wait: Duration,
    pub bytes_from_memory: u64,
    pub bytes_from_disk: u64,
}

/// The stored KV of one prompt, being read. Dropping it ends the reading with the blocks that are
/// just being read.
pub(crate) struct Loader {
    sources: Sources,
    /// Ascending: the layers of which something is read.
    layers: Vec<usize>,
    /// `None` where nothing is read.
    ticket: Option<Ticket>,
    report: LoadReport,
}

impl Loader {
    /// Lets the readers begin with what a plan needs, after the prompts that came before.
    pub(crate) fn open(
        readers: &Readers,
        plan: &FusionPlan,
        sources: Sources,
        identity: &KvIdentity,
    ) -> Self {
        Self::start(
            readers,
            &layer_reads(plan, identity.n_layers),
            sources,
            identity,
        )
    }

    pub(super) fn start(
        readers: &Readers,
        reads: &[LayerReads],
        sources: Sources,
        identity: &KvIdentity,
    ) -> Self {
        let layers: Vec<usize> = reads.iter().map(|read| read.layer).collect();
        let blocks = reads.iter().map(|read| {
            let block = |(chunk, rows): &(usize, Range<usize>)| BlockRead {
                layer: read.layer,
                chunk: *chunk,
                span: identity.block_span(rows.len()),
                rows: rows.clone(),
            };
            read.chunks.iter().map(block).collect()
        });
        let ticket = (!layers.is_empty()).then(|| readers.open(blocks.collect(), sources.clone()));
        Self {
            sources,
            layers,
            ticket,
            report: LoadReport::default(),
        }
    }

    /// Takes precedence over all other prompts: this one runs now.
    pub(crate) fn hasten(&self) {
        if let Some(ticket) = &self.ticket {
            ticket.hasten();
        }
    }

    /// Whether anything of this layer is read.
    pub(crate) fn reads(&self, layer_idx: usize) -> bool {
        self.layers.binary_search(&layer_idx).is_ok()
    }

    /// The blocks of the next layer of the list, in prompt order; none after the last one.
    ///
    /// # Errors
    /// The first block that could not be had, or did not come in time; nothing more comes after it. What `stop` says.
    pub(super) fn next(&mut self, stop: StopCheck<'_>) -> Result<Vec<LoadedBlock>, Interrupt> {
        let Some(ticket) = &self.ticket else {
            return Ok(Vec::new());
        };
        let start = Instant::now();
        let blocks = ticket.next_layer(stop);
        self.report.wait += start.elapsed();
        let blocks = blocks?;
        for block in &blocks {
            match block.tier {
                Tier::Memory => self.report.bytes_from_memory += block.bytes(),
                Tier::Disk => self.report.bytes_from_disk += block.bytes(),
            }
        }
        Ok(blocks)
    }

    /// Time the caller has waited for layers so far.
    pub(crate) fn waited(&self) -> Duration {
        self.report.wait
    }

    /// Stops reading; gives the sources back with what loading came to.
    pub(crate) fn finish(self) -> (Sources, LoadReport) {
        let load = self.ticket.as_ref().map_or(Duration::ZERO, Ticket::load);
        (
            self.sources,
            LoadReport {
                load,
                ..self.report
            },
        )
    }
}
