//! Dense vectors: an exact matrix, and above a threshold a graph that proposes candidates.
//!
//! The matrix alone decides. Candidates are scored with it, rows that are not in the graph yet are
//! scanned, and where the graph cannot serve, all rows are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::filter::Filter;
use super::graph::Graph;
use super::matrix::{BLOCK_ROWS, Matrix, dot, unit};
use super::options::IndexOptions;
use super::rank::Best;
use super::rows::Rows;
use super::task::{GraphDone, GraphTask, Outcome};
use crate::error::RetrieverError;

/// Share of rows that pass a filter, below which scoring just those beats the graph.
const SELECTIVE: f64 = 0.1;
/// Candidates asked for, times those expected to be needed.
const OVER_FETCH: f64 = 1.5;
/// Share of the rows above which so many candidates cost more than scoring every row: visiting one
/// means comparing about as many vectors, far apart in memory.
const MOST_CANDIDATES: usize = 32;

/// What the graph of an index can do at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphStatus {
    /// None is wanted: few vectors, sparse ones, or the index is set to be flat.
    Unwanted,
    /// One is wanted and not built yet. Searches are exact.
    Pending,
    /// It serves searches.
    Ready {
        /// Rows that it covers; the few others are scanned.
        rows: usize,
    },
    /// It failed and is not tried again before the index is packed. Searches are exact.
    Failed,
}

#[derive(Debug)]
pub(super) struct Dense {
    matrix: Matrix,
    state: State,
    /// Another one whenever rows get new numbers: work on the old numbers is then void.
    epoch: u64,
}

#[derive(Debug)]
enum State {
    None,
    Ready {
        graph: Arc<Graph>,
        /// Number of blocks whose rows are in the graph.
        covered: usize,
    },
    Failed,
}

/// What a search asks for. The query has length 1.
#[derive(Debug, Clone, Copy)]
struct Wanted<'q> {
    query: &'q [f32],
    top_k: usize,
    filter: &'q Filter,
}

impl Dense {
    pub(super) fn new(dimension: usize) -> Self {
        Self {
            matrix: Matrix::new(dimension),
            state: State::None,
            epoch: next_epoch(),
        }
    }

    pub(super) fn push(&mut self, values: &[f32]) -> Result<(), RetrieverError> {
        self.matrix.push(values)
    }

    /// The best rows that pass the filter.
    pub(super) fn search(
        &self,
        query: &[f32],
        top_k: usize,
        filter: &Filter,
        rows: &Rows,
        options: &IndexOptions,
    ) -> Result<Vec<(u32, f32)>, RetrieverError> {
        self.matrix.check(query)?;
        let wanted = Wanted {
            query: &unit(query),
            top_k,
            filter,
        };
        let share = rows.share(filter);
        if share < SELECTIVE {
            return Ok(self.few(&wanted, rows).into_rows());
        }
        let best = self.proposed(&wanted, share, rows, options);
        let best = best.unwrap_or_else(|| self.scan(0, &wanted, rows));
        Ok(best.into_rows())
    }

    /// Scores the rows from block `first` on.
    fn scan<'i>(&self, first: usize, wanted: &Wanted<'_>, rows: &'i Rows) -> Best<'i> {
        let admit = |row| rows.admit(row, wanted.filter);
        self.matrix.scan(first, wanted.query, wanted.top_k, admit)
    }

    /// Scores only the rows that pass.
    fn few<'i>(&self, wanted: &Wanted<'_>, rows: &'i Rows) -> Best<'i> {
        let mut best = Best::new(wanted.top_k);
        for row in rows.candidates(wanted.filter) {
            if let Some(chunk_id) = rows.admit(row, wanted.filter) {
                best.offer(row, self.score(row, wanted), || Some(chunk_id));
            }
        }
        best
    }

    fn score(&self, row: u32, wanted: &Wanted<'_>) -> f32 {
        dot(self.matrix.row(row), wanted.query)
    }

    /// The best of the graph's candidates and of the rows that are not in it. `None` if there is no
    /// graph, if it would take longer than a scan, or if it found fewer than asked for.
    fn proposed<'i>(
        &self,
        wanted: &Wanted<'_>,
        share: f64,
        rows: &'i Rows,
        options: &IndexOptions,
    ) -> Option<Best<'i>> {
        let State::Ready { graph, covered } = &self.state else {
            return None;
        };
        let live = rows.n_live() as f64 / rows.len() as f64;
        let needed = (wanted.top_k as f64 / (live * share) * OVER_FETCH).ceil() as usize;
        let n_covered = covered * BLOCK_ROWS;
        if needed > options.ef_search.max(n_covered / MOST_CANDIDATES) {
            return None;
        }
        let found = graph.search(wanted.query, needed.max(options.ef_search))?;
        let mut best = self.scan(*covered, wanted, rows);
        // Rows beyond those covered are in the graph while more go in; they have been scanned.
        for row in found.into_iter().filter(|&row| (row as usize) < n_covered) {
            let admit = || rows.admit(row, wanted.filter);
            best.offer(row, self.score(row, wanted), admit);
        }
        (best.len() >= wanted.top_k).then_some(best)
    }

    pub(super) fn status(&self, rows: &Rows, options: &IndexOptions) -> GraphStatus {
        match &self.state {
            State::Ready { graph, covered } if !graph.is_broken() => GraphStatus::Ready {
                rows: covered * BLOCK_ROWS,
            },
            State::Ready { .. } | State::Failed => GraphStatus::Failed,
            State::None if self.wants_graph(rows, options) => GraphStatus::Pending,
            State::None => GraphStatus::Unwanted,
        }
    }

    fn wants_graph(&self, rows: &Rows, options: &IndexOptions) -> bool {
        options.wants_graph(rows.n_live())
            && self.matrix.dimension() > 1
            && !self.matrix.blocks().is_empty()
    }

    /// What is to be done so that the graph covers all full blocks, if anything.
    pub(super) fn task(&self, rows: &Rows, options: &IndexOptions) -> Option<GraphTask> {
        let blocks = self.matrix.blocks();
        let (graph, first) = match &self.state {
            State::Failed => return None,
            State::None if !self.wants_graph(rows, options) => return None,
            State::Ready { graph, .. } if graph.is_broken() => return None,
            State::Ready { covered, .. } if *covered == blocks.len() => return None,
            State::Ready { graph, covered } if graph.add_blocks(*covered, &blocks[*covered..]) => {
                (Arc::clone(graph), *covered)
            }
            // None yet, or one whose room is used up.
            State::None | State::Ready { .. } => {
                let graph = Graph::new(self.matrix.dimension(), blocks, options);
                (Arc::new(graph), 0)
            }
        };
        let numbers = (first * BLOCK_ROWS) as u32..(blocks.len() * BLOCK_ROWS) as u32;
        let live = numbers.filter(|&row| rows.is_live(row)).collect();
        Some(GraphTask::new(self.epoch, graph, live, blocks.len()))
    }

    /// Takes over what a task made. Returns the graph that it replaces, for the caller to drop where
    /// nobody waits.
    pub(super) fn install(&mut self, done: GraphDone) -> Option<Arc<Graph>> {
        if done.epoch != self.epoch {
            return Some(done.graph);
        }
        let state = match done.outcome {
            Outcome::Covers { blocks } => State::Ready {
                graph: done.graph,
                covered: blocks,
            },
            Outcome::Failed => State::Failed,
        };
        match std::mem::replace(&mut self.state, state) {
            State::Ready { graph, .. } => Some(graph),
            State::None | State::Failed => None,
        }
    }

    pub(super) fn forget_graph(&mut self) -> Option<Arc<Graph>> {
        self.epoch = next_epoch();
        match std::mem::replace(&mut self.state, State::None) {
            State::Ready { graph, .. } => Some(graph),
            State::None | State::Failed => None,
        }
    }

    /// The graph and the number of rows that it covers, if all of them are alive.
    pub(super) fn complete(&self, rows: &Rows) -> Option<(Arc<Graph>, u32)> {
        match &self.state {
            State::Ready { graph, covered } if !graph.is_broken() && rows.n_dead() == 0 => {
                Some((Arc::clone(graph), (covered * BLOCK_ROWS) as u32))
            }
            State::Ready { .. } | State::None | State::Failed => None,
        }
    }

    pub(super) fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// Gives the rows new numbers. The graph, which knows the old ones, is gone.
    pub(super) fn renumber(&mut self, new_row: &[Option<u32>]) {
        self.matrix.renumber(new_row);
        if let Some(graph) = self.forget_graph() {
            // A large graph takes about a second to take apart, and searches wait for this call.
            std::thread::spawn(move || drop(graph));
        }
    }

    /// Takes a graph over the first `rows` rows that was read from a dump.
    pub(super) fn adopt(&mut self, graph: Graph, rows: u32) {
        self.state = State::Ready {
            graph: Arc::new(graph),
            covered: rows as usize / BLOCK_ROWS,
        };
    }
}

/// A number that no other matrix of this process has had.
fn next_epoch() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
