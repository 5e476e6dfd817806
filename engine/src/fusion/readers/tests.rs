//! Order, bounds and failures of reading ahead, with sources that record what they are asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::error::EngineError;
use crate::fusion::loader::Loader;
use crate::fusion::schedule::LayerReads;
use crate::kv::{ALONE, ComputeDtype, HostBuffer, KernelPrecision, KvDtype, KvIdentity, Tier};

const N_LAYERS: usize = 9;
/// Longer than any test runs.
const FOREVER: Duration = Duration::from_secs(3600);
const GO_ON: StopCheck<'static> = &|| None;

/// One head of two f32: 8 bytes per token and side.
fn identity() -> KvIdentity {
    KvIdentity {
        model_fingerprint: [0; 32],
        tokenizer_hash: [0; 32],
        kv_dtype: KvDtype::F32,
        compute_dtype: ComputeDtype::F32,
        kernel_precision: KernelPrecision::Plain,
        tenant: String::new(),
        contexts: ALONE,
        n_layers: N_LAYERS,
        kv_heads: 1,
        head_dim: 2,
    }
}

/// Fills K with the layer and V with the chunk.
struct Numbered {
    chunk: u8,
    kept: Mutex<Vec<Arc<HostBuffer>>>,
}

impl LayerSource for Numbered {
    fn read_layer(&self, layer: usize, into: &mut HostBuffer) -> Result<(), SourceError> {
        let (k, v) = into.blocks_mut();
        k.fill(layer as u8);
        v.fill(self.chunk);
        Ok(())
    }

    fn resident(&self, layer: usize) -> Option<Arc<HostBuffer>> {
        self.kept.lock().unwrap().get(layer).cloned()
    }

    fn tier(&self) -> Tier {
        Tier::Disk
    }
}

fn numbered(chunk: u8) -> Arc<dyn LayerSource> {
    let kept = Mutex::default();
    Arc::new(Numbered { chunk, kept })
}

fn numbered_two() -> Sources {
    vec![Some(numbered(0)), Some(numbered(1))]
}

/// Chunk 0 at positions 1..4 from layer 0 on, chunk 1 at 4..9 from layer 1 on.
fn reads() -> Vec<LayerReads> {
    let chunks = |layer| {
        let all = [(0, 1..4), (1, 4..9)];
        all[..if layer == 0 { 1 } else { 2 }].to_vec()
    };
    (0..N_LAYERS)
        .map(|layer| LayerReads {
            layer,
            chunks: chunks(layer),
        })
        .collect()
}

fn blocks(layer: usize, n_chunks: usize) -> Vec<BlockRead> {
    let block = |chunk| BlockRead {
        layer,
        chunk,
        rows: chunk..chunk + 1,
        span: identity().block_span(1),
    };
    (0..n_chunks).map(block).collect()
}

/// A prompt of `n_chunks` chunks, all read at each layer, without sources.
fn prompt(id: u64, n_chunks: usize) -> Prompt {
    let layers = (0..N_LAYERS).map(|layer| blocks(layer, n_chunks));
    Prompt::new(id, layers.collect(), Vec::new())
}

/// The reads that can begin now: prompt, layer, chunk.
fn begun(state: &mut State) -> Vec<(u64, usize, usize)> {
    std::iter::from_fn(|| state.begin())
        .map(|task| (task.prompt_id, task.block.layer, task.block.chunk))
        .collect()
}

fn read(prompt: &mut Prompt, index: usize) {
    let ring = Arc::new(BufferRing::new(0));
    let block = prompt.blocks[index].run(Some(&*numbered(0)), &ring);
    prompt.read[index] = Some(block.map_err(|error| prompt.blocks[index].bad(error)));
}

#[test]
fn all_chunks_of_a_layer_come_before_the_next_layer_and_reading_ahead_is_bounded() {
    let mut state = State::default();
    state.prompts.push_back(prompt(7, 2));
    let layers = |layers: Range<usize>| -> Vec<_> {
        layers
            .flat_map(|layer| [(7, layer, 0), (7, layer, 1)])
            .collect()
    };
    assert_eq!(begun(&mut state), layers(0..READ_AHEAD_LAYERS));
    let first = &mut state.prompts[0];
    read(first, 1);
    assert!(first.take_layer().is_none(), "chunk 0 is still missing");
    read(first, 0);
    assert_eq!(first.take_layer().unwrap().unwrap().len(), 2);
    assert_eq!(
        begun(&mut state),
        layers(READ_AHEAD_LAYERS..READ_AHEAD_LAYERS + 1)
    );
}

#[test]
fn the_running_prompt_comes_first_and_only_the_next_is_read_for_beside_it() {
    let readers = Readers::idle(1, FOREVER);
    let one_layer = || vec![blocks(0, 1)];
    let tickets: Vec<_> = (0..3)
        .map(|_| readers.open(one_layer(), Vec::new()))
        .collect();
    let begin = || begun(&mut readers.shared.lock());
    assert_eq!(begin(), [(0, 0, 0), (1, 0, 0)]);
    tickets[2].hasten();
    assert_eq!(begin(), [(2, 0, 0)]);
    drop(tickets);
    assert!(readers.shared.lock().prompts.is_empty());
}

#[test]
fn layers_come_with_their_rows_and_bytes() {
    let readers = Readers::start(FOREVER).unwrap();
    let mut loader = Loader::start(&readers, &reads(), numbered_two(), &identity());
    for layer in 0..N_LAYERS {
        assert!(loader.reads(layer));
        let blocks = loader.next(GO_ON).unwrap();
        let rows: Vec<_> = blocks.iter().map(|block| block.rows.clone()).collect();
        assert_eq!(rows, [1..4, 4..9][..blocks.len()]);
        assert_eq!(blocks.len(), if layer == 0 { 1 } else { 2 });
        for (chunk, block) in (0u8..).zip(&blocks) {
            let n_bytes = 8 * block.rows.len();
            assert_eq!(block.k(), vec![layer as u8; n_bytes]);
            assert_eq!(block.v(), vec![chunk; n_bytes]);
        }
    }
    assert!(loader.next(GO_ON).unwrap().is_empty());
    let (sources, report) = loader.finish();
    assert_eq!(sources.len(), 2);
    let n_rows = 3 * N_LAYERS + 5 * (N_LAYERS - 1);
    assert_eq!(report.bytes_from_disk, 16 * n_rows as u64);
    assert_eq!(report.bytes_from_memory, 0);
}

#[test]
fn memory_goes_round_and_what_is_resident_is_not_read() {
    let readers = Readers::start(FOREVER).unwrap();
    let kept = Mutex::default();
    let source = Arc::new(Numbered { chunk: 1, kept });
    let pass = || {
        let sources = vec![Some(numbered(0)), Some(source.clone() as _)];
        let mut loader = Loader::start(&readers, &reads(), sources, &identity());
        while !loader.next(GO_ON).unwrap().is_empty() {}
        loader.finish().1
    };
    assert_eq!(pass().bytes_from_memory, 0);
    let n_idle = readers.shared.ring.n_idle();
    assert!(
        (1..=2 * (READ_AHEAD_LAYERS + 1)).contains(&n_idle),
        "{n_idle}"
    );
    for layer in 0..N_LAYERS {
        let mut buffer = HostBuffer::new(identity().block_span(5));
        source.read_layer(layer, &mut buffer).unwrap();
        source.kept.lock().unwrap().push(Arc::new(buffer));
    }
    let report = pass();
    assert_eq!(report.bytes_from_memory, 16 * 5 * (N_LAYERS - 1) as u64);
    assert_eq!(report.bytes_from_disk, 16 * 3 * N_LAYERS as u64);
    assert_eq!(source.kept.lock().unwrap().len(), N_LAYERS);
}

/// Goes wrong at one layer.
struct Bad {
    layer: usize,
    panics: bool,
}

impl LayerSource for Bad {
    fn read_layer(&self, layer: usize, _: &mut HostBuffer) -> Result<(), SourceError> {
        assert!(
            !(self.panics && layer == self.layer),
            "as the test wants it"
        );
        match layer == self.layer {
            true => Err(SourceError {
                message: "torn".into(),
            }),
            false => Ok(()),
        }
    }

    fn tier(&self) -> Tier {
        Tier::Disk
    }
}

fn bad_block(next: Result<Vec<LoadedBlock>, Interrupt>) -> BadBlock {
    match next {
        Err(Interrupt::BadBlock(block)) => block,
        Err(Interrupt::Stopped(error)) => panic!("stopped: {error}"),
        Ok(_) => panic!("the layer came"),
    }
}

#[test]
fn an_error_comes_when_its_layer_is_asked_for() {
    let readers = Readers::start(FOREVER).unwrap();
    for (panics, message) in [(false, "torn"), (true, "reading stored KV panicked")] {
        let bad = Arc::new(Bad { layer: 3, panics });
        let sources = vec![Some(numbered(0)), Some(bad as _)];
        let mut loader = Loader::start(&readers, &reads(), sources, &identity());
        for _ in 0..3 {
            loader.next(GO_ON).unwrap();
        }
        for _ in 0..2 {
            let bad = bad_block(loader.next(GO_ON));
            assert_eq!((bad.chunk, bad.layer), (1, 3));
            assert_eq!(bad.error.message, message);
        }
        assert_eq!(loader.finish().0.len(), 2, "the sources come back");
    }
    // A chunk without a source is an error too, and the threads have survived all of it.
    let sources = vec![Some(numbered(0)), None];
    let mut loader = Loader::start(&readers, &reads(), sources, &identity());
    loader.next(GO_ON).unwrap();
    assert_eq!(bad_block(loader.next(GO_ON)).chunk, 1);
}

/// Blocks in its first read until the test lets go.
struct Stuck {
    reached: Sender<()>,
    open: Mutex<Receiver<()>>,
    dropped: Arc<AtomicBool>,
}

impl LayerSource for Stuck {
    fn read_layer(&self, _: usize, _: &mut HostBuffer) -> Result<(), SourceError> {
        let _ = self.reached.send(()); // the test may have ended
        let _ = self.open.lock().unwrap().recv(); // an error: open for good
        Ok(())
    }

    fn tier(&self) -> Tier {
        Tier::Disk
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

/// A source that is stuck until the second value is dropped, and a receiver that reports when a thread is in it.
fn stuck(dropped: &Arc<AtomicBool>) -> (Arc<dyn LayerSource>, Sender<()>, Receiver<()>) {
    let ((reached, is_reached), (gate, open)) = (channel(), channel());
    let source = Stuck {
        reached,
        open: Mutex::new(open),
        dropped: Arc::clone(dropped),
    };
    (Arc::new(source), gate, is_reached)
}

#[test]
fn giving_up_waits_for_no_read_and_leaves_the_threads_to_others() {
    let readers = Readers::start(FOREVER).unwrap();
    let dropped = Arc::default();
    let (stuck, gate, is_reached) = stuck(&dropped);
    let loader = Loader::start(&readers, &reads(), vec![Some(stuck)], &identity());
    is_reached.recv().unwrap();
    drop(loader); // while a thread is inside the source
    assert!(!dropped.load(Ordering::SeqCst));
    drop(gate);
    let mut loader = Loader::start(&readers, &reads(), numbered_two(), &identity());
    for _ in 0..N_LAYERS {
        loader.next(GO_ON).unwrap();
    }
}

#[test]
fn a_wait_for_a_read_ends_when_the_request_is_given_up() {
    let readers = Readers::start(FOREVER).unwrap();
    let (stuck, _gate, is_reached) = stuck(&Arc::default());
    let mut loader = Loader::start(&readers, &reads(), vec![Some(stuck)], &identity());
    is_reached.recv().unwrap();
    let cancelled = || Some(EngineError::Cancelled);
    let ended = loader.next(&cancelled);
    assert!(matches!(
        ended,
        Err(Interrupt::Stopped(EngineError::Cancelled))
    ));
}

/// Short enough to wait for, long enough for a read on a busy machine.
const SOON: Duration = Duration::from_millis(400);

#[test]
fn a_read_that_hangs_is_a_bad_block_and_others_are_read_all_the_same() {
    let readers = Readers::start(SOON).unwrap();
    let (stuck, _gate, _is_reached) = stuck(&Arc::default());
    let sources = vec![Some(numbered(0)), Some(stuck)];
    let mut loader = Loader::start(&readers, &reads(), sources, &identity());
    loader.next(GO_ON).unwrap(); // layer 0 is of chunk 0 alone
    let bad = bad_block(loader.next(GO_ON));
    assert_eq!((bad.chunk, bad.layer), (1, 1));
    assert!(bad.error.message.contains("400ms"), "{}", bad.error);
    drop(loader);
    // Reading ahead may have led every thread into the source that hangs; other threads have replaced them.
    let mut loader = Loader::start(&readers, &reads(), numbered_two(), &identity());
    for _ in 0..N_LAYERS {
        loader.next(GO_ON).unwrap();
    }
}

#[test]
fn when_every_thread_hangs_nothing_is_waited_for_until_one_comes_back() {
    let readers = Readers::start(SOON).unwrap();
    readers.shared.lock().busy = vec![None; MAX_THREADS_WITH_STUCK];
    for i in reader_threads()..MAX_THREADS_WITH_STUCK {
        start_thread(&readers.shared, i).unwrap();
    }
    let mut gates = Vec::new();
    for _ in 0..MAX_THREADS_WITH_STUCK {
        let (stuck, gate, is_reached) = stuck(&Arc::default());
        let one_layer = &reads()[..1];
        let loader = Loader::start(&readers, one_layer, vec![Some(stuck)], &identity());
        is_reached.recv().unwrap();
        drop(loader);
        gates.push(gate);
    }
    let all_stuck = |state: &State| state.busy.iter().all(|since| is_stuck(*since, SOON));
    while !all_stuck(&readers.shared.lock()) {
        std::thread::yield_now();
    }
    let mut loader = Loader::start(&readers, &reads(), numbered_two(), &identity());
    assert_eq!(bad_block(loader.next(GO_ON)).layer, 0);
    assert_eq!(readers.shared.lock().busy.len(), MAX_THREADS_WITH_STUCK);
    drop(gates);
    while readers.shared.lock().busy.iter().any(Option::is_some) {
        std::thread::yield_now();
    }
    let mut loader = Loader::start(&readers, &reads(), numbered_two(), &identity());
    for _ in 0..N_LAYERS {
        loader.next(GO_ON).unwrap();
    }
}
