//! One prompt's stored KV on its way to the engine thread: which blocks, in which order, and
//! the result of each read. The reading itself is done by the engine's [`Readers`].

use std::ops::Range;
use std::time::{Duration, Instant};

use super::block::{BlockRead, LoadedBlock, Sources};
use super::interrupt::{Interrupt, StopCheck};
use super::plan::FusionPlan;
use super::readers::{Readers, Ticket};
use super::schedule::{LayerReads, layer_reads};
use crate::kv::{KvIdentity, Tier};

/// Times and bytes of one prompt's loading.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LoadReport {
    /// Time the reader threads spent on these blocks, added up.
    pub load: Duration,
    /// Time the caller waited for blocks.
    pub wait: Duration,
    pub bytes_from_memory: u64,
    pub bytes_from_disk: u64,
}

/// The stored KV of one prompt, being read. Dropping it stops the reading after the blocks that
/// are being read now.
pub(crate) struct Loader {
    sources: Sources,
    /// The layers of which something is read, ascending.
    layers: Vec<usize>,
    /// `None` if nothing is read.
    ticket: Option<Ticket>,
    report: LoadReport,
}

impl Loader {
    /// Queues the reads that a plan needs, after those of earlier prompts.
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

    /// Puts this prompt's reads before all others, because it runs now.
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
    /// The first block that could not be read or did not arrive in time, after which no more blocks follow; or the
    /// error that `stop` returns.
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

    /// Stops reading; gives the sources back, with times and bytes.
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
