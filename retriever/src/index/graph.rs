//! Approximate search over the rows of a matrix: `hnsw_rs` (arXiv 1603.09320), fenced in.
//!
//! A point of the graph is a row number, and its distance looks the vector up in the blocks that it
//! shares with the matrix, so no vector is copied. The crate asserts and panics in places: every
//! call that may is caught, and a graph that failed once is not used again. What a search returns is
//! only a list of candidates; the caller scores them itself.

mod blocks;
mod distance;
mod twins;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hnsw_rs::api::AnnT as _;
use hnsw_rs::hnsw::Hnsw;
use hnsw_rs::hnswio::HnswIo;
use rayon::prelude::*;

use super::matrix::{BLOCK_ROWS, Block};
use super::options::IndexOptions;
use blocks::Blocks;
use distance::{RowDistance, as_point};
use twins::Twins;

/// `hnsw_rs` dumps only graphs that were made with this many layers.
const MAX_LAYERS: usize = 16;
/// Rows that go in one after the other: two first points that go in at once could miss each other.
const SERIAL_ROWS: usize = 256;
/// Rows between two looks at the stop sign.
const PIECE: usize = 1024;
/// Name of the dump's files, before `.hnsw.graph` and `.hnsw.data`.
pub(super) const DUMP_NAME: &str = "points";

/// Why rows did not go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// The caller asked to stop.
    Stopped,
    /// `hnsw_rs` panicked, or no thread could be started.
    Failed,
}

/// A graph over rows of a matrix. Equal vectors are one point, see [`Twins`].
pub(super) struct Graph {
    points: Hnsw<'static, u32, RowDistance>,
    blocks: Arc<Blocks>,
    twins: RwLock<Twins>,
    /// Not to be used again.
    broken: AtomicBool,
    /// Held while rows go in and while a dump is written.
    changing: Mutex<()>,
}

impl Graph {
    /// An empty graph with room for twice the rows of `blocks`, which it may look up.
    pub(super) fn new(dimension: usize, blocks: &[Block], options: &IndexOptions) -> Self {
        let blocks = Blocks::new(dimension, blocks);
        let distance = RowDistance::new(&blocks);
        let n = blocks.n_filled() * BLOCK_ROWS;
        let (m, ef) = (options.m, options.ef_construction);
        Self::of(Hnsw::new(m, n, MAX_LAYERS, ef, distance), blocks)
    }

    fn of(points: Hnsw<'static, u32, RowDistance>, blocks: Arc<Blocks>) -> Self {
        Self {
            points,
            blocks,
            twins: RwLock::default(),
            broken: AtomicBool::new(false),
            changing: Mutex::new(()),
        }
    }

    /// Makes further blocks of the matrix known; `false` if there is no room for them.
    pub(super) fn add_blocks(&self, first: usize, blocks: &[Block]) -> bool {
        self.blocks.add(first, blocks)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Number of points: rows with different vectors.
    pub(super) fn n_points(&self) -> usize {
        self.points.get_nb_point()
    }

    /// Puts rows in, on `threads` threads. Searches may run meanwhile. A graph that is left
    /// unfinished is broken.
    pub(super) fn add(
        &self,
        rows: &[u32],
        threads: usize,
        stop: &AtomicBool,
    ) -> Result<(), Unfinished> {
        let _changing = lock(&self.changing);
        let added = catch_unwind(AssertUnwindSafe(|| self.add_rows(rows, threads, stop)));
        let added = added.unwrap_or(Err(Unfinished::Failed));
        if added.is_err() {
            self.broken.store(true, Ordering::Release);
        }
        added
    }

    fn add_rows(&self, rows: &[u32], threads: usize, stop: &AtomicBool) -> Result<(), Unfinished> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.thread_name(|n| format!("index-{n}"));
        let pool = pool.build().map_err(|_| Unfinished::Failed)?;
        let rows = self.without_twins(rows);
        let serial = match self.n_points() {
            0 => rows.len().min(SERIAL_ROWS),
            _ => 0,
        };
        let (first, others) = rows.split_at(serial);
        first.iter().for_each(|row| self.insert(*row));
        for piece in others.chunks(PIECE) {
            if stop.load(Ordering::Relaxed) {
                return Err(Unfinished::Stopped);
            }
            pool.install(|| piece.par_iter().for_each(|row| self.insert(*row)));
        }
        Ok(())
    }

    fn insert(&self, row: u32) {
        self.points.insert((&[row], row as usize));
    }

    /// Rows that need a point of their own; the others are noted as twins of an earlier row.
    fn without_twins(&self, rows: &[u32]) -> Vec<u32> {
        let mut twins = self.twins.write().unwrap_or_else(PoisonError::into_inner);
        let rows = rows.iter().copied();
        rows.filter(|&row| twins.is_first(row, &self.blocks))
            .collect()
    }

    /// Rows near a query of length 1, about `ef` of them, in any order. `None` if the graph is
    /// broken.
    pub(super) fn search(&self, query: &[f32], ef: usize) -> Option<Vec<u32>> {
        if self.is_broken() {
            return None;
        }
        let search = || self.points.search(as_point(query), ef, ef);
        let Ok(found) = catch_unwind(AssertUnwindSafe(search)) else {
            self.broken.store(true, Ordering::Release);
            return None;
        };
        let twins = self.twins.read().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::with_capacity(found.len());
        for point in found {
            let row = point.d_id as u32;
            rows.push(row);
            rows.extend_from_slice(twins.of(row));
        }
        Some(rows)
    }

    /// Writes the graph into two new files in `dir`.
    ///
    /// # Errors
    /// What `hnsw_rs` said.
    pub(super) fn write(&self, dir: &Path) -> Result<(), String> {
        let _changing = lock(&self.changing);
        if self.is_broken() {
            return Err("the graph failed earlier".to_owned());
        }
        let write = || self.points.file_dump(dir, DUMP_NAME);
        match catch_unwind(AssertUnwindSafe(write)) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("hnsw_rs panicked while it wrote".to_owned()),
        }
    }

    /// Reads what [`Graph::write`] wrote about `rows`, which must be the rows it was made of, in the
    /// order in which they went in. Call this only with files whose hashes were verified: `hnsw_rs`
    /// ends the process on some bad ones.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn read(
        dir: &Path,
        dimension: usize,
        blocks: &[Block],
        rows: std::ops::Range<u32>,
    ) -> Result<Self, String> {
        let blocks = Blocks::new(dimension, blocks);
        // `Hnsw` borrows from this for vectors that it maps into memory. It maps none here, but has
        // to live as long: a few hundred bytes, once per start.
        let io: &'static HnswIo = Box::leak(Box::new(HnswIo::new(dir, DUMP_NAME)));
        let read = || io.load_hnsw_with_dist(RowDistance::new(&blocks));
        let points = match catch_unwind(AssertUnwindSafe(read)) {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(_) => Err("hnsw_rs panicked while it read".to_owned()),
        };
        let mut points = points?;
        // Reading turns this on; building had it off.
        points.set_extend_candidates(false);
        let graph = Self::of(points, blocks);
        let rows: Vec<u32> = rows.collect();
        let firsts: HashSet<usize> = graph
            .without_twins(&rows)
            .iter()
            .map(|&r| r as usize)
            .collect();
        graph.check_points(&firsts)?;
        Ok(graph)
    }

    fn check_points(&self, expected: &HashSet<usize>) -> Result<(), String> {
        let points = self.points.get_point_indexation().into_iter();
        let known = points.filter(|point| expected.contains(&point.get_origin_id()));
        match known.count() == expected.len() && self.n_points() == expected.len() {
            true => Ok(()),
            false => Err("its points are not the rows of the index".to_owned()),
        }
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph")
            .field("points", &self.n_points())
            .field("broken", &self.is_broken())
            .finish_non_exhaustive()
    }
}

fn lock(mutex: &Mutex<()>) -> std::sync::MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: IndexOptions = IndexOptions {
        kind: super::super::options::IndexKind::Hnsw,
        hnsw_threshold: 0,
        m: 8,
        ef_construction: 40,
        ef_search: 16,
    };

    fn block(angle_of: impl Fn(usize) -> f32) -> Block {
        let rows = (0..BLOCK_ROWS).map(angle_of);
        rows.flat_map(|angle| [angle.cos(), angle.sin()]).collect()
    }

    #[test]
    fn a_panic_inside_breaks_the_graph_and_not_the_process() {
        let graph = Graph::new(2, &[block(|row| row as f32 / 64.0)], &OPTIONS);
        // A row without a vector. A first point is not compared with anything, so it goes in.
        graph.insert(9_999);
        assert_eq!(graph.search(&[1.0, 0.0], 3), None);
        assert!(graph.is_broken());
        assert!(
            graph
                .write(Path::new("/nowhere"))
                .unwrap_err()
                .contains("failed earlier")
        );
        let graph = Graph::new(2, &[], &OPTIONS);
        let added = graph.add(&[0], 1, &AtomicBool::new(false));
        assert_eq!(added, Err(Unfinished::Failed));
    }

    #[test]
    fn equal_vectors_are_one_point_and_all_found() {
        let graph = Graph::new(2, &[block(|row| (row / 16) as f32)], &OPTIONS);
        let rows: Vec<u32> = (0..64).collect();
        graph.add(&rows, 2, &AtomicBool::new(false)).unwrap();
        assert_eq!(graph.n_points(), 4);
        let mut found = graph.search(&[1.0, 0.0], 1).unwrap();
        found.sort_unstable();
        assert_eq!(found, (0..16).collect::<Vec<u32>>());
    }

    #[test]
    fn a_stop_leaves_a_graph_that_is_not_used() {
        let blocks: Vec<Block> = (0..16)
            .map(|b| block(move |row| (b * 64 + row) as f32 / 999.0))
            .collect();
        let graph = Graph::new(2, &blocks, &OPTIONS);
        let rows: Vec<u32> = (0..1024).collect();
        let stopped = graph.add(&rows, 1, &AtomicBool::new(true));
        assert_eq!(stopped, Err(Unfinished::Stopped));
        assert_eq!(graph.search(&[1.0, 0.0], 3), None);
    }
}
