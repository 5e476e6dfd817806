//! The thread that keeps the search graph up to date while a server runs, and its dump on disk.
//!
//! The index is locked only for short steps: to see what is to be done, and to take over what was done. The dump is a
//! cache beside the store: a failure to write or read it costs the next start the time to build the graph.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ragweave_retriever::{DumpError, GraphStatus, GraphTask};

use super::SearchIndex;

/// Time between two looks for new work.
const PERIOD: Duration = Duration::from_secs(1);
/// Vectors from which on inserting them is worth a line in the log.
const WORTH_A_LINE: usize = 10_000;

/// Where the dump is kept.
#[derive(Debug, Clone)]
pub struct DumpPlace {
    /// A folder of its own in the data directory.
    pub dir: PathBuf,
    pub embedder_id: String,
}

/// The running thread.
#[derive(Debug)]
pub struct GraphKeeper {
    stop: Arc<AtomicBool>,
    /// Dropped to wake the thread.
    awake: Sender<()>,
    thread: JoinHandle<()>,
}

impl GraphKeeper {
    /// Starts the thread. Without a `place`, nothing is written.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        index: Arc<RwLock<SearchIndex>>,
        place: Option<DumpPlace>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (awake, end) = mpsc::channel();
        let mut work = Work {
            index,
            place,
            stop: Arc::clone(&stop),
            written: None,
            last_status: GraphStatus::Unwanted,
        };
        let thread = thread::Builder::new().name("index".to_owned());
        let thread = thread.spawn(move || {
            work.note_restored();
            work.bring_up_to_date();
            while end.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                work.bring_up_to_date();
            }
            work.write_dump();
        })?;
        Ok(Self {
            stop,
            awake,
            thread,
        })
    }

    /// Ends work in progress, within seconds, and writes the graph if it is complete and changed since it was last
    /// written. Blocks.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.awake);
        if self.thread.join().is_err() {
            tracing::error!("the thread of the search graph panicked");
        }
    }
}

/// Takes the graph from the dump, if it fits; the reason is logged if not.
pub fn restore(index: &mut SearchIndex, place: &DumpPlace) {
    if index.graph_status() != GraphStatus::Pending {
        return;
    }
    let since = Instant::now();
    match index.restore(&place.dir, &place.embedder_id) {
        Ok(()) => {
            tracing::info!(chunks = index.len(), elapsed = ?since.elapsed(), "search graph read from its dump")
        }
        Err(DumpError::Absent { .. }) => {}
        Err(reason) => {
            tracing::warn!(%reason, "the search graph is built again; until then searches are exact")
        }
    }
}

struct Work {
    index: Arc<RwLock<SearchIndex>>,
    place: Option<DumpPlace>,
    stop: Arc<AtomicBool>,
    /// The state of the graph that is on disk.
    written: Option<GraphStatus>,
    last_status: GraphStatus,
}

impl Work {
    /// A graph that serves from the start came from the disk.
    fn note_restored(&mut self) {
        let status = self.status();
        self.written = matches!(status, GraphStatus::Ready { .. }).then_some(status);
    }

    fn status(&self) -> GraphStatus {
        self.read(SearchIndex::graph_status)
    }

    /// Inserts the vectors that are not in the graph. A graph that had to be built is written at once, as that takes
    /// long; one that has only grown, at the end.
    fn bring_up_to_date(&mut self) {
        if let Some(task) = self.read(SearchIndex::graph_task) {
            let is_new = !matches!(self.status(), GraphStatus::Ready { .. });
            self.run(task, is_new);
            if is_new {
                self.write_dump();
            }
        }
        let status = self.status();
        if status == GraphStatus::Failed && self.last_status != status {
            tracing::error!(
                "the search graph failed and is not used; searches are exact until the server is restarted"
            );
        }
        self.last_status = status;
    }

    fn run(&self, task: GraphTask, is_new: bool) {
        let (chunks, since) = (task.len(), Instant::now());
        let is_long = is_new && chunks >= WORTH_A_LINE;
        if is_long {
            tracing::info!(
                chunks,
                "building the search graph; until it is ready, searches are exact"
            );
        }
        let Some(done) = task.run(threads(), &self.stop) else {
            return;
        };
        let index = self.index.write();
        let replaced = index.unwrap_or_else(PoisonError::into_inner).install(done);
        drop(replaced); // the lock is free by now
        if is_long {
            tracing::info!(chunks, elapsed = ?since.elapsed(), "the work on the search graph is done");
        }
    }

    fn write_dump(&mut self) {
        let Some(place) = &self.place else {
            return;
        };
        let status = self.status();
        if self.written == Some(status) {
            return;
        }
        let Some(dump) = self.read(|index| index.dump(&place.embedder_id)) else {
            return;
        };
        match dump.write(&place.dir) {
            Ok(()) => tracing::debug!(rows = dump.rows(), "search graph written"),
            Err(error) => {
                tracing::warn!(%error, "the search graph is not kept; the next start builds it again")
            }
        }
        self.written = Some(status);
    }

    fn read<T>(&self, look: impl FnOnce(&SearchIndex) -> T) -> T {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Half of the cores: requests come first.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

#[cfg(test)]
mod tests;
