//! The engine's reader threads. They read ahead for the running prompt and for the one after it,
//! layer by layer: every chunk of a layer before the next layer.
//!
//! All decisions are made under one lock, which is held only briefly; blocks are read outside it.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::block::{BlockRead, LoadedBlock, Sources};
use super::interrupt::{BadBlock, Interrupt, StopCheck};
use crate::kv::{BufferRing, HostMemory, LayerSource, SourceError};

/// The fewest reader threads. Two keep a disk busy while one of them verifies what it has read.
const MIN_READER_THREADS: usize = 2;
/// The most reader threads: more do not add to memory bandwidth.
const MAX_READER_THREADS: usize = 4;
/// The most threads including stuck ones: a thread that has been inside one read for too long is replaced.
const MAX_THREADS_WITH_STUCK: usize = 16;
/// Cores per reader thread; the other cores compute.
const CORES_PER_READER: usize = 4;
/// Layers of one prompt that may be read and not yet taken. With the layer in use, a prompt
/// holds at most one layer more than this; a GPU keeps the buffers of the last 64 to 128 copies for longer.
pub const READ_AHEAD_LAYERS: usize = 4;
/// Prompts whose KV is read at a time: the running one and the next in the queue.
const MAX_READING: usize = 2;

/// Most bytes of buffers kept for later prompts.
const MAX_IDLE_BYTES: usize = 256 << 20;
/// How often a wait for a block checks that the request is still wanted and the read is not overdue.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// The reader threads of one engine. They end when this is dropped.
pub(crate) struct Readers {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when there may be something to read.
    work: Condvar,
    /// Signalled when a block has arrived.
    ready: Condvar,
    ring: Arc<BufferRing>,
    /// A read that takes longer is abandoned: the device may never answer.
    read_timeout: Duration,
}

#[derive(Default)]
struct State {
    /// The running prompt, then the others in order of arrival.
    prompts: VecDeque<Prompt>,
    next_id: u64,
    /// Per thread, when its current read began.
    busy: Vec<Option<Instant>>,
    is_closed: bool,
}

/// One prompt's reads and their progress.
struct Prompt {
    id: u64,
    sources: Sources,
    blocks: Vec<BlockRead>,
    /// Per layer, its part of `blocks`.
    layers: Vec<Range<usize>>,
    /// Blocks below this are being read or have been.
    n_begun: usize,
    /// When each block below `n_begun` was begun.
    begun: Vec<Instant>,
    /// Layers below this have been taken.
    n_taken: usize,
    /// Per block, the result of its read; `None` before the read ends and after the result is taken.
    read: Vec<Option<Result<LoadedBlock, BadBlock>>>,
    load: Duration,
}

/// One block for one thread.
struct Task {
    prompt_id: u64,
    begun: Instant,
    index: usize,
    block: BlockRead,
    source: Option<Arc<dyn LayerSource>>,
}

impl Readers {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn start(read_timeout: Duration) -> io::Result<Self> {
        let n_threads = reader_threads();
        let readers = Self::idle(n_threads, read_timeout);
        for i in 0..n_threads {
            start_thread(&readers.shared, i)?;
        }
        Ok(readers)
    }

    /// The state, without starting threads.
    fn idle(n_threads: usize, read_timeout: Duration) -> Self {
        let state = State {
            busy: vec![None; n_threads],
            ..State::default()
        };
        let shared = Shared {
            state: Mutex::new(state),
            read_timeout,
            work: Condvar::new(),
            ready: Condvar::new(),
            ring: Arc::new(BufferRing::new(MAX_IDLE_BYTES)),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Reads blocks into memory from this allocator from now on. Only the first call has an effect.
    pub(crate) fn read_into(&self, memory: Arc<dyn HostMemory>) {
        self.shared.ring.allocate_in(memory);
    }

    /// Queues a prompt's blocks, given layer by layer.
    pub(super) fn open(&self, layers: Vec<Vec<BlockRead>>, sources: Sources) -> Ticket {
        let mut state = self.shared.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.prompts.push_back(Prompt::new(id, layers, sources));
        drop(state);
        self.shared.work.notify_all();
        Ticket {
            id,
            shared: Arc::clone(&self.shared),
        }
    }
}

fn start_thread(shared: &Arc<Shared>, i: usize) -> io::Result<()> {
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new().name(format!("ragweave-read-{i}"));
    thread.spawn(move || shared.work(i)).map(drop)
}

/// Whether a thread has been inside one read for longer than it may.
fn is_stuck(since: Option<Instant>, timeout: Duration) -> bool {
    since.is_some_and(|since| since.elapsed() >= timeout)
}

/// The number of threads that suits this machine.
fn reader_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / CORES_PER_READER).clamp(MIN_READER_THREADS, MAX_READER_THREADS)
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        // A thread inside a source ends when the source returns; this does not wait for it.
        self.shared.work.notify_all();
    }
}

/// A prompt's place among the reads. Dropping it takes the prompt out.
pub(super) struct Ticket {
    id: u64,
    shared: Arc<Shared>,
}

impl Ticket {
    /// Puts the prompt before all others.
    pub(super) fn hasten(&self) {
        let mut state = self.shared.lock();
        if let Some(i) = state.place(self.id)
            && let Some(prompt) = state.prompts.remove(i)
        {
            state.prompts.push_front(prompt);
        }
        drop(state);
        self.shared.work.notify_all();
    }

    /// Waits for the next layer, at most as long as one read may take, and only while `stop` returns `None`.
    ///
    /// # Errors
    /// The first of its blocks that could not be read or did not arrive in time, or the error that `stop` returns.
    pub(super) fn next_layer(&self, stop: StopCheck<'_>) -> Result<Vec<LoadedBlock>, Interrupt> {
        let shared = &self.shared;
        let mut state = shared.lock();
        loop {
            if let Some(prompt) = state.prompt(self.id)
                && let Some(blocks) = prompt.take_layer()
            {
                drop(state);
                shared.work.notify_all();
                return Ok(blocks?);
            }
            if let Some(error) = stop() {
                return Err(Interrupt::Stopped(error));
            }
            if let Some((overdue, source)) = state.overdue(self.id, shared.read_timeout) {
                self.replace_stuck_threads(&mut state);
                drop(state);
                if let Some(source) = source {
                    source.overdue();
                }
                return Err(overdue.into());
            }
            let waited = shared.ready.wait_timeout(state, CHECK_INTERVAL);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Starts as many threads as are stuck, up to a limit: a file that does not answer must not keep all others from
    /// being read.
    fn replace_stuck_threads(&self, state: &mut State) {
        let timeout = self.shared.read_timeout;
        let stuck = state.busy.iter().filter(|since| is_stuck(**since, timeout));
        let n_stuck = stuck.count();
        tracing::warn!(n_stuck, "reads of stored KV have not returned in time");
        let wanted = (reader_threads() + n_stuck).min(MAX_THREADS_WITH_STUCK);
        while state.busy.len() < wanted {
            if let Err(error) = start_thread(&self.shared, state.busy.len()) {
                tracing::warn!(%error, "could not start a thread to replace a stuck one");
                return;
            }
            state.busy.push(None);
        }
    }

    /// Time the threads have spent on this prompt's blocks so far.
    pub(super) fn load(&self) -> Duration {
        let mut state = self.shared.lock();
        state
            .prompt(self.id)
            .map_or(Duration::ZERO, |prompt| prompt.load)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let prompt = state.place(self.id).and_then(|i| state.prompts.remove(i));
        drop(state);
        drop(prompt); // sources may do anything when they are dropped: not under the lock
        self.shared.work.notify_all();
    }
}

impl Shared {
    /// The loop of a reader thread.
    fn work(&self, thread: usize) {
        while let Some(task) = self.next_task(thread) {
            let source = task.source.as_deref();
            let read = || task.block.run(source, &self.ring);
            let read = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
                Err(SourceError {
                    message: "reading stored KV panicked".into(),
                })
            });
            let read = read.map_err(|error| task.block.bad(error));
            self.deliver(thread, &task, read, task.begun.elapsed());
        }
    }

    /// Waits for something to read; `None` once closed.
    fn next_task(&self, thread: usize) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(task) = state.begin() {
                state.busy[thread] = Some(task.begun);
                return Some(task);
            }
            let waited = self.work.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn deliver(
        &self,
        thread: usize,
        task: &Task,
        read: Result<LoadedBlock, BadBlock>,
        took: Duration,
    ) {
        let mut state = self.lock();
        state.busy[thread] = None;
        let Some(prompt) = state.prompt(task.prompt_id) else {
            drop(state); // the prompt was given up: its buffer is reused
            return;
        };
        if read.is_err() {
            prompt.give_up(); // nothing after it is wanted
        }
        prompt.load += took;
        prompt.read[task.index] = Some(read);
        drop(state);
        self.ready.notify_all();
    }

    /// Each change to the state is atomic under the lock, so it is safe to ignore poisoning.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next block of the first prompt that may read one.
    fn begin(&mut self) -> Option<Task> {
        let mut prompts = self.prompts.iter_mut().take(MAX_READING);
        prompts.find_map(Prompt::begin)
    }

    /// The block that a prompt's next layer waits for and its source, if its read has taken longer than `timeout`, or
    /// cannot begin because the reads of all threads have.
    fn overdue(
        &mut self,
        id: u64,
        timeout: Duration,
    ) -> Option<(BadBlock, Option<Arc<dyn LayerSource>>)> {
        let none_answers = self.busy.iter().all(|since| is_stuck(*since, timeout));
        let prompt = self.prompt(id)?;
        let index = prompt.missing()?;
        let begun = prompt.begun.get(index).copied();
        let is_overdue = begun.map_or(none_answers, |since| is_stuck(Some(since), timeout));
        if !is_overdue {
            return None;
        }
        prompt.give_up();
        let block = &prompt.blocks[index];
        let bad = block.bad(SourceError {
            message: format!("stored KV did not come within {timeout:?}"),
        });
        // A block that was not begun says nothing about its source.
        let source = begun.and_then(|_| prompt.sources.get(block.chunk)?.clone());
        Some((bad, source))
    }

    fn place(&self, id: u64) -> Option<usize> {
        self.prompts.iter().position(|prompt| prompt.id == id)
    }

    fn prompt(&mut self, id: u64) -> Option<&mut Prompt> {
        self.prompts.iter_mut().find(|prompt| prompt.id == id)
    }
}

impl Prompt {
    fn new(id: u64, layers: Vec<Vec<BlockRead>>, sources: Sources) -> Self {
        let mut end = 0;
        let ranges = layers.iter().map(|blocks| {
            let start = end;
            end += blocks.len();
            start..end
        });
        Self {
            id,
            sources,
            layers: ranges.collect(),
            n_begun: 0,
            begun: Vec::new(),
            n_taken: 0,
            read: (0..end).map(|_| None).collect(),
            blocks: layers.into_iter().flatten().collect(),
            load: Duration::ZERO,
        }
    }

    /// The next block, if it lies within the read-ahead.
    fn begin(&mut self) -> Option<Task> {
        let last = self.layers.len().min(self.n_taken + READ_AHEAD_LAYERS);
        let limit = self.layers[..last].last().map_or(0, |layer| layer.end);
        let index = self.n_begun;
        if index >= limit {
            return None;
        }
        self.n_begun += 1;
        let begun = Instant::now();
        self.begun.push(begun);
        let block = self.blocks[index].clone();
        Some(Task {
            prompt_id: self.id,
            begun,
            index,
            source: self.sources.get(block.chunk).cloned().flatten(),
            block,
        })
    }

    /// Stops beginning reads.
    fn give_up(&mut self) {
        self.n_begun = self.blocks.len();
    }

    /// The first block of the next layer that has not arrived.
    fn missing(&self) -> Option<usize> {
        let mut layer = self.layers.get(self.n_taken)?.clone();
        layer.find(|&index| self.read[index].is_none())
    }

    /// The next layer once all of it is there, or its first bad block once all blocks before that one are.
    /// Blocks are begun in order, so each block before a bad one does arrive. A layer with a bad
    /// block is not taken.
    fn take_layer(&mut self) -> Option<Result<Vec<LoadedBlock>, BadBlock>> {
        let Some(layer) = self.layers.get(self.n_taken).cloned() else {
            return Some(Ok(Vec::new()));
        };
        for read in &self.read[layer.clone()] {
            if let Err(bad) = read.as_ref()? {
                return Some(Err(bad.clone()));
            }
        }
        self.n_taken += 1;
        Some(self.read[layer].iter_mut().flat_map(Option::take).collect())
    }
}

#[cfg(test)]
mod tests;
