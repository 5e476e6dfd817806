//! The exact index: every chunk that shares anything with the query is scored.
//!
//! Sparse vectors are kept in postings lists, dense ones in one matrix. A removed chunk leaves a
//! dead row that searches skip. When dead rows outnumber live ones, the index is packed again, so a
//! removal takes constant time on average. Results depend on the content of the index, never on the
//! order in which chunks were added.

mod matrix;
mod postings;
mod rank;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::embed::Embedding;
use crate::error::RetrieverError;
use matrix::Matrix;
use postings::Postings;

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

/// Which chunks may be found; the default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Each of these must be in the metadata of the document, with an equal value.
    pub metadata: BTreeMap<String, String>,
    /// If given, the document must be one of these.
    pub document_ids: Option<BTreeSet<String>>,
}

/// Exact search over the chunks of all documents, held in memory.
#[derive(Debug, Default)]
pub struct FlatIndex {
    /// In the order of insertion; the position is the row number.
    rows: Vec<Row>,
    n_dead: usize,
    chunks: HashMap<Arc<str>, u32>,
    documents: HashMap<Arc<str>, Vec<u32>>,
    vectors: Vectors,
}

#[derive(Debug)]
struct Row {
    chunk_id: Arc<str>,
    document_id: Arc<str>,
    metadata: Arc<BTreeMap<String, String>>,
    live: bool,
}

/// The kind is set by the first vector inserted.
#[derive(Debug, Default)]
enum Vectors {
    #[default]
    None,
    Sparse(Postings),
    Dense(Matrix),
}

impl FlatIndex {
    /// An empty index, which takes either kind of embedding.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of chunks that can be found.
    pub fn len(&self) -> usize {
        self.rows.len() - self.n_dead
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
        if self.chunks.contains_key(chunk_id) {
            return Err(RetrieverError::DuplicateChunk {
                chunk_id: chunk_id.to_owned(),
            });
        }
        let row = u32::try_from(self.rows.len()).map_err(|_| RetrieverError::IndexFull {
            limit: u32::MAX as usize,
        })?;
        self.vectors.push(row, embedding)?;
        let (document_id, metadata) = self.shared(document_id, metadata);
        let chunk_id: Arc<str> = Arc::from(chunk_id);
        self.chunks.insert(Arc::clone(&chunk_id), row);
        self.documents
            .entry(Arc::clone(&document_id))
            .or_default()
            .push(row);
        self.rows.push(Row {
            chunk_id,
            document_id,
            metadata,
            live: true,
        });
        Ok(())
    }

    /// Removes all chunks of a document and returns how many there were.
    pub fn remove_document(&mut self, id: &str) -> usize {
        let rows = self.documents.remove(id).unwrap_or_default();
        for &row in &rows {
            let row = &mut self.rows[row as usize];
            row.live = false;
            self.chunks.remove(&row.chunk_id);
        }
        self.n_dead += rows.len();
        if self.n_dead > self.len() + DEAD_ROWS_KEPT || self.is_empty() {
            self.repack();
        }
        rows.len()
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
        let mut scores = self.vectors.scores(query, &self.rows, self.n_dead)?;
        let passes = |row: &Row| filter.passes(&row.document_id, &row.metadata);
        scores.retain(|&(row, _)| passes(&self.rows[row as usize]));
        let chunk_id = |row: u32| &*self.rows[row as usize].chunk_id;
        let best = rank::best_first(scores, top_k, chunk_id);
        let scored = best
            .into_iter()
            .map(|(row, score)| self.rows[row as usize].scored(score));
        Ok(scored.collect())
    }

    /// Document id and metadata, shared with the document's last chunk where they are equal.
    fn shared(
        &self,
        document_id: &str,
        metadata: &BTreeMap<String, String>,
    ) -> (Arc<str>, Arc<BTreeMap<String, String>>) {
        let last = self.documents.get(document_id).and_then(|rows| rows.last());
        match last.map(|&row| &self.rows[row as usize]) {
            Some(row) if *row.metadata == *metadata => {
                (Arc::clone(&row.document_id), Arc::clone(&row.metadata))
            }
            Some(row) => (Arc::clone(&row.document_id), Arc::new(metadata.clone())),
            None => (Arc::from(document_id), Arc::new(metadata.clone())),
        }
    }

    /// Renumbers the live rows from 0 and drops the dead ones.
    fn repack(&mut self) {
        let mut next = 0;
        let mut new_row = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            new_row.push(row.live.then_some(next));
            next += u32::from(row.live);
        }
        self.rows.retain(|row| row.live);
        self.n_dead = 0;
        let renumber = |row: &mut u32| {
            *row = new_row[*row as usize].expect("the maps hold live rows only");
        };
        self.chunks.values_mut().for_each(renumber);
        self.documents.values_mut().flatten().for_each(renumber);
        self.vectors.repack(&new_row);
        if self.rows.is_empty() {
            self.vectors = Vectors::None;
        }
    }
}

impl Row {
    fn scored(&self, score: f32) -> Scored {
        Scored {
            chunk_id: self.chunk_id.to_string(),
            document_id: self.document_id.to_string(),
            score,
        }
    }
}

impl Filter {
    /// Whether the chunks of this document may be found.
    pub fn passes(&self, document_id: &str, metadata: &BTreeMap<String, String>) -> bool {
        let wanted = |ids: &BTreeSet<String>| ids.contains(document_id);
        self.document_ids.as_ref().is_none_or(wanted)
            && self
                .metadata
                .iter()
                .all(|(key, value)| metadata.get(key) == Some(value))
    }
}

impl Vectors {
    fn push(&mut self, row: u32, embedding: Embedding) -> Result<(), RetrieverError> {
        match (&mut *self, embedding) {
            (Self::Sparse(postings), Embedding::Sparse(terms)) => postings.push(row, &terms),
            (Self::Dense(matrix), Embedding::Dense(values)) => return matrix.push(&values),
            (Self::None, Embedding::Sparse(terms)) => {
                *self = Self::Sparse(Postings::of(row, &terms))
            }
            (Self::None, Embedding::Dense(values)) => *self = Self::Dense(Matrix::of(&values)),
            (Self::Sparse(_) | Self::Dense(_), embedding) => {
                return Err(self.wrong_kind(&embedding));
            }
        }
        Ok(())
    }

    /// Live rows with something in common with the query, and their scores.
    fn scores(
        &self,
        query: &Embedding,
        rows: &[Row],
        n_dead: usize,
    ) -> Result<Vec<(u32, f32)>, RetrieverError> {
        match (self, query) {
            (Self::None, _) => Ok(Vec::new()),
            (Self::Sparse(postings), Embedding::Sparse(terms)) => {
                Ok(postings.scores(terms, rows.len(), n_dead, |row| rows[row as usize].live))
            }
            (Self::Dense(matrix), Embedding::Dense(values)) => {
                let mut scores = matrix.scores(values)?;
                scores.retain(|&(row, _)| rows[row as usize].live);
                Ok(scores)
            }
            (Self::Sparse(_) | Self::Dense(_), query) => Err(self.wrong_kind(query)),
        }
    }

    fn repack(&mut self, new_row: &[Option<u32>]) {
        match self {
            Self::None => {}
            Self::Sparse(postings) => postings.repack(new_row),
            Self::Dense(matrix) => matrix.repack(new_row),
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
