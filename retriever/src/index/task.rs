//! Work on the graph, cut off from the index so that it can be done while the index is searched and
//! changed.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::graph::{Graph, Unfinished};

/// Rows that are to go into a graph: [`VectorIndex::graph_task`](super::VectorIndex::graph_task).
#[derive(Debug)]
pub struct GraphTask {
    epoch: u64,
    graph: Arc<Graph>,
    rows: Vec<u32>,
    /// Blocks that the graph covers once the rows are in.
    blocks: usize,
}

/// A finished [`GraphTask`], for [`VectorIndex::install`](super::VectorIndex::install).
#[derive(Debug)]
pub struct GraphDone {
    pub(super) epoch: u64,
    pub(super) graph: Arc<Graph>,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Covers { blocks: usize },
    Failed,
}

impl GraphTask {
    pub(super) fn new(epoch: u64, graph: Arc<Graph>, rows: Vec<u32>, blocks: usize) -> Self {
        Self {
            epoch,
            graph,
            rows,
            blocks,
        }
    }

    /// Number of vectors to insert.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no vector to insert.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Inserts the vectors on `threads` threads: about a millisecond of one core each. `None` if
    /// `stop` was set meanwhile; it is looked at every thousand vectors. With several threads the
    /// graph differs from run to run, and so may the last few results of a search.
    pub fn run(self, threads: usize, stop: &AtomicBool) -> Option<GraphDone> {
        let outcome = match self.graph.add(&self.rows, threads, stop) {
            Ok(()) => Outcome::Covers {
                blocks: self.blocks,
            },
            Err(Unfinished::Failed) => Outcome::Failed,
            Err(Unfinished::Stopped) => return None,
        };
        Some(GraphDone {
            epoch: self.epoch,
            graph: self.graph,
            outcome,
        })
    }
}

impl GraphDone {
    /// Whether `hnsw_rs` failed, so that searches stay exact.
    pub fn has_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed)
    }
}
