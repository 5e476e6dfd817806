//! The index: every chunk that shares anything with the query can be found.
//!
//! Sparse vectors are kept in postings lists, dense ones in one matrix; both are searched exactly.
//! Above a threshold a graph proposes candidates among the dense ones, which the matrix scores, so
//! a score is the exact cosine in any case. The graph is built by tasks that the caller runs beside
//! searches and changes ([`VectorIndex::graph_task`]); until it is ready, searches are exact.
//!
//! A removed chunk leaves a dead row that searches skip. When dead rows outnumber live ones, the
//! index is packed again, so a removal takes constant time on average. Results depend on the content
//! of the index, never on the order in which chunks were added, except for what a graph overlooks.

mod dense;
mod dump;
mod filter;
mod graph;
mod matrix;
mod options;
mod postings;
mod rank;
mod rows;
mod task;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::embed::Embedding;
use crate::error::RetrieverError;
use dense::Dense;
use dump::Intact;
use postings::Postings;
use rank::Best;
use rows::Rows;

pub use dense::GraphStatus;
pub use dump::{DumpError, GraphDump};
pub use filter::Filter;
pub use options::{IndexKind, IndexOptions};
pub use task::{GraphDone, GraphTask};

/// Dead rows that are not worth a repack.
const DEAD_ROWS_KEPT: usize = 64;

/// A found chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Id of the chunk.
    pub chunk_id: String,
    /// Id of its document.
    pub document_id: String,
    /// BM25 score (above 0) or cosine (-1 to 1); higher is better.
    pub score: f32,
}

/// Search over the chunks of all documents, held in memory.
#[derive(Debug, Default)]
pub struct VectorIndex {
    options: IndexOptions,
    rows: Rows,
    vectors: Vectors,
}

/// The kind is set by the first vector inserted.
#[derive(Debug, Default)]
enum Vectors {
    #[default]
    None,
    Sparse(Postings),
    Dense(Dense),
}

/// The graph that an index no longer uses. Dropping a large one takes about a second.
#[derive(Debug)]
#[must_use = "drop it where nobody waits for the index"]
pub struct Replaced(#[expect(dead_code, reason = "kept to be dropped")] Option<Arc<graph::Graph>>);

impl VectorIndex {
    /// An empty index, which takes either kind of embedding. Parameters of the graph outside their
    /// bounds are moved into them.
    pub fn new(options: IndexOptions) -> Self {
        Self {
            options: options.clamped(),
            ..Self::default()
        }
    }

    /// Changes how many candidates a search in the graph keeps.
    pub fn set_ef_search(&mut self, ef_search: usize) {
        let options = IndexOptions {
            ef_search,
            ..self.options
        };
        self.options = options.clamped();
    }

    /// Number of chunks that can be found.
    pub fn len(&self) -> usize {
        self.rows.n_live()
    }

    /// Whether there is nothing to find.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a chunk.
    ///
    /// # Errors
    /// `BadEmbedding`, `WrongKind`, `WrongDimension`, `DuplicateChunk`, `IndexFull`; the index is
    /// then unchanged.
    pub fn insert(
        &mut self,
        chunk_id: &str,
        document_id: &str,
        metadata: &BTreeMap<String, String>,
        embedding: Embedding,
    ) -> Result<(), RetrieverError> {
        embedding.check()?;
        if self.rows.has_chunk(chunk_id) {
            return Err(RetrieverError::DuplicateChunk {
                chunk_id: chunk_id.to_owned(),
            });
        }
        let row = u32::try_from(self.rows.len()).map_err(|_| RetrieverError::IndexFull {
            limit: u32::MAX as usize,
        })?;
        self.vectors.push(row, embedding)?;
        self.rows.add(row, chunk_id, document_id, metadata);
        Ok(())
    }

    /// Removes all chunks of a document and returns how many there were.
    pub fn remove_document(&mut self, id: &str) -> usize {
        let removed = self.rows.remove_document(id);
        if self.rows.n_dead() > self.len() + DEAD_ROWS_KEPT || self.is_empty() {
            self.renumber(&self.rows.packed());
        }
        removed
    }

    /// The `top_k` best chunks that pass the filter, best first; equal scores are ordered by chunk
    /// id. Fewer if fewer have anything in common with the query. `top_k` has no upper limit.
    ///
    /// # Errors
    /// `BadEmbedding`, `WrongKind`, `WrongDimension`.
    pub fn search(
        &self,
        query: &Embedding,
        top_k: usize,
        filter: &Filter,
    ) -> Result<Vec<Scored>, RetrieverError> {
        query.check()?;
        let found = match (&self.vectors, query) {
            (Vectors::None, _) => Vec::new(),
            (Vectors::Sparse(postings), Embedding::Sparse(terms)) => {
                self.search_sparse(postings, terms, top_k, filter)
            }
            (Vectors::Dense(dense), Embedding::Dense(values)) => {
                dense.search(values, top_k, filter, &self.rows, &self.options)?
            }
            (vectors, query) => return Err(vectors.wrong_kind(query)),
        };
        let scored = |(row, score)| Scored {
            chunk_id: self.rows.chunk_id(row).to_string(),
            document_id: self.rows.document_id(row).to_string(),
            score,
        };
        Ok(found.into_iter().map(scored).collect())
    }

    fn search_sparse(
        &self,
        postings: &Postings,
        terms: &[(u32, f32)],
        top_k: usize,
        filter: &Filter,
    ) -> Vec<(u32, f32)> {
        let (n_rows, n_dead) = (self.rows.len(), self.rows.n_dead());
        let mut best = Best::new(top_k);
        for (row, score) in postings.scores(terms, n_rows, n_dead, |row| self.rows.is_live(row)) {
            best.offer(row, score, || self.rows.admit(row, filter));
        }
        best.into_rows()
    }

    /// What the graph can do at present.
    pub fn graph_status(&self) -> GraphStatus {
        match &self.vectors {
            Vectors::Dense(dense) => dense.status(&self.rows, &self.options),
            Vectors::None | Vectors::Sparse(_) => GraphStatus::Unwanted,
        }
    }

    /// The work that the graph needs, if any. Run it without holding a lock on the index, then
    /// [`install`](Self::install) what it made; one task at a time. A task becomes void when the
    /// index is packed meanwhile.
    pub fn graph_task(&self) -> Option<GraphTask> {
        match &self.vectors {
            Vectors::Dense(dense) => dense.task(&self.rows, &self.options),
            Vectors::None | Vectors::Sparse(_) => None,
        }
    }

    /// Uses what a task made, unless the index was packed since.
    pub fn install(&mut self, done: GraphDone) -> Replaced {
        match &mut self.vectors {
            Vectors::Dense(dense) => Replaced(dense.install(done)),
            Vectors::None | Vectors::Sparse(_) => Replaced(Some(done.graph)),
        }
    }

    /// Takes the graph away. A task can build it again, a dump give it back.
    pub fn forget_graph(&mut self) -> Replaced {
        match &mut self.vectors {
            Vectors::Dense(dense) => Replaced(dense.forget_graph()),
            Vectors::None | Vectors::Sparse(_) => Replaced(None),
        }
    }

    /// The graph as it can be written to disk; `None` if there is none, or if it has dead rows. The
    /// name of the embedder goes with it.
    pub fn dump(&self, embedder_id: &str) -> Option<GraphDump> {
        let Vectors::Dense(dense) = &self.vectors else {
            return None;
        };
        let (graph, n_rows) = dense.complete(&self.rows)?;
        let settings = self.settings(dense, embedder_id);
        Some(GraphDump::new(
            graph,
            n_rows,
            &self.rows,
            dense.matrix(),
            settings,
        ))
    }

    /// Takes the graph from the dump below `dir`, if its files are intact and all its rows are in
    /// this index, with equal vectors. Call this after the vectors have been inserted.
    ///
    /// # Errors
    /// [`DumpError`]; the index then has no graph, and a task can build one.
    pub fn restore(&mut self, dir: &Path, embedder_id: &str) -> Result<(), DumpError> {
        let absent = || DumpError::Absent {
            dir: dir.to_owned(),
        };
        if self.graph_status() != GraphStatus::Pending {
            return Err(absent());
        }
        if self.rows.n_dead() > 0 {
            self.renumber(&self.rows.packed());
        }
        let Vectors::Dense(dense) = &self.vectors else {
            return Err(absent());
        };
        let settings = self.settings(dense, embedder_id);
        let intact = Intact::open(dir, &settings, &self.rows, dense.matrix())?;
        if !intact
            .new_row
            .iter()
            .copied()
            .eq((0..).map(Some).take(intact.new_row.len()))
        {
            self.renumber(&intact.new_row);
        }
        if let Vectors::Dense(dense) = &mut self.vectors {
            let graph = intact.graph(dense.matrix())?;
            dense.adopt(graph, intact.n_rows);
        }
        Ok(())
    }

    fn settings(&self, dense: &Dense, embedder_id: &str) -> dump::Settings {
        dump::Settings::new(dense.matrix().dimension(), embedder_id, &self.options)
    }

    /// Gives the live rows new numbers and drops the dead ones.
    fn renumber(&mut self, new_row: &[Option<u32>]) {
        self.rows.renumber(new_row);
        self.vectors.renumber(new_row);
        if self.rows.len() == 0 {
            self.vectors = Vectors::None;
        }
    }
}

impl Vectors {
    fn push(&mut self, row: u32, embedding: Embedding) -> Result<(), RetrieverError> {
        match (&mut *self, embedding) {
            (Self::Sparse(postings), Embedding::Sparse(terms)) => postings.push(row, &terms),
            (Self::Dense(dense), Embedding::Dense(values)) => return dense.push(&values),
            (Self::None, Embedding::Sparse(terms)) => {
                *self = Self::Sparse(Postings::of(row, &terms));
            }
            (Self::None, Embedding::Dense(values)) => {
                let mut dense = Dense::new(values.len());
                dense.push(&values)?;
                *self = Self::Dense(dense);
            }
            (Self::Sparse(_) | Self::Dense(_), embedding) => {
                return Err(self.wrong_kind(&embedding));
            }
        }
        Ok(())
    }

    fn renumber(&mut self, new_row: &[Option<u32>]) {
        match self {
            Self::None => {}
            Self::Sparse(postings) => postings.repack(new_row),
            Self::Dense(dense) => dense.renumber(new_row),
        }
    }

    fn wrong_kind(&self, found: &Embedding) -> RetrieverError {
        let expected = match self {
            Self::Dense(_) => "dense",
            Self::None | Self::Sparse(_) => "sparse",
        };
        RetrieverError::WrongKind {
            expected,
            found: found.kind(),
        }
    }
}
