//! Reading ahead: one thread reads layer after layer of all chunks while the engine computes.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::kv::{KvIdentity, LayerSource, SourceError, block_words};

/// Layers that may wait in the channel. With the one being read and the one in use, host memory is
/// bounded to two more than this.
const READ_AHEAD_LAYERS: usize = 2;

/// One source per chunk of the prompt; `None` where the chunk is missed.
pub(crate) type Sources = Vec<Option<Box<dyn LayerSource>>>;

/// What to read of one layer.
#[derive(Debug, Clone)]
pub(crate) struct LayerReads {
    pub layer: usize,
    /// Chunk index and its positions, ascending.
    pub chunks: Vec<(usize, Range<usize>)>,
}

/// The stored KV of one layer of all wanted chunks, one after the other.
pub(crate) struct LoadedLayer {
    pub rows: Vec<usize>,
    pub k: Vec<u32>,
    pub v: Vec<u32>,
    pub bytes: u64,
}

/// A block that could not be had.
#[derive(Debug)]
pub(crate) struct BadBlock {
    pub chunk: usize,
    pub layer: usize,
    pub error: SourceError,
}

/// The read-ahead thread of one fused prefill.
pub(crate) struct Loader {
    layers: Receiver<Result<LoadedLayer, BadBlock>>,
    thread: JoinHandle<(Sources, Duration)>,
    wait: Duration,
}

impl Loader {
    /// Starts reading `reads`, in order.
    pub(crate) fn start(reads: Vec<LayerReads>, sources: Sources, identity: KvIdentity) -> Self {
        let (sender, layers) = sync_channel(READ_AHEAD_LAYERS);
        let thread = std::thread::spawn(move || read_layers(&reads, sources, &identity, &sender));
        Self {
            layers,
            thread,
            wait: Duration::ZERO,
        }
    }

    /// The next layer of the list.
    ///
    /// # Errors
    /// The block that could not be read. Nothing more comes after it.
    pub(crate) fn next(&mut self) -> Result<LoadedLayer, BadBlock> {
        let start = Instant::now();
        let layer = self.layers.recv();
        self.wait += start.elapsed();
        layer.unwrap_or_else(|_| {
            // The thread died without a word: a panic inside a source.
            let error = SourceError {
                message: "reading stored KV panicked".into(),
            };
            Err(BadBlock {
                chunk: 0,
                layer: 0,
                error,
            })
        })
    }

    /// Time the caller has waited for layers so far.
    pub(crate) fn waited(&self) -> Duration {
        self.wait
    }

    /// Stops reading; gives the sources back with the time spent reading and waiting.
    pub(crate) fn finish(self) -> (Sources, Duration, Duration) {
        drop(self.layers);
        let (sources, load) = self.thread.join().unwrap_or_default();
        (sources, load, self.wait)
    }
}

fn read_layers(
    reads: &[LayerReads],
    mut sources: Sources,
    identity: &KvIdentity,
    sender: &SyncSender<Result<LoadedLayer, BadBlock>>,
) -> (Sources, Duration) {
    let mut load = Duration::ZERO;
    for read in reads {
        let start = Instant::now();
        let layer = read_layer(read, &mut sources, identity);
        load += start.elapsed();
        let stop = layer.is_err();
        // A closed channel means that the prefill was given up.
        if sender.send(layer).is_err() || stop {
            break;
        }
    }
    (sources, load)
}

fn read_layer(
    read: &LayerReads,
    sources: &mut Sources,
    identity: &KvIdentity,
) -> Result<LoadedLayer, BadBlock> {
    let rows: Vec<usize> = read
        .chunks
        .iter()
        .flat_map(|(_, rows)| rows.clone())
        .collect();
    let total = identity.block_bytes(rows.len());
    let mut k = vec![0u32; block_words(total)];
    let mut v = vec![0u32; block_words(total)];
    let (k_bytes, v_bytes) = (
        bytemuck::cast_slice_mut::<u32, u8>(&mut k),
        bytemuck::cast_slice_mut(&mut v),
    );
    let mut start = 0;
    for (chunk, chunk_rows) in &read.chunks {
        let block = start..start + identity.block_bytes(chunk_rows.len());
        start = block.end;
        let bad = |error| BadBlock {
            chunk: *chunk,
            layer: read.layer,
            error,
        };
        let Some(source) = sources.get_mut(*chunk).and_then(Option::as_mut) else {
            return Err(bad(SourceError {
                message: "the chunk has no source".into(),
            }));
        };
        source
            .read_layer(read.layer, &mut k_bytes[block.clone()], &mut v_bytes[block])
            .map_err(bad)?;
    }
    Ok(LoadedLayer {
        rows,
        k,
        v,
        bytes: 2 * total as u64,
    })
}
