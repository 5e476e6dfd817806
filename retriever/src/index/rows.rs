//! The rows of the index: the chunk of each, its document, and whether it is still there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::filter::Filter;

/// Rows looked at to estimate the share that passes a filter on metadata.
const SAMPLED_ROWS: usize = 512;

/// Rows in the order of insertion; the position is the row number.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: Vec<Row>,
    n_dead: usize,
    chunks: HashMap<Arc<str>, u32>,
    documents: HashMap<Arc<str>, Vec<u32>>,
}

#[derive(Debug)]
struct Row {
    chunk_id: Arc<str>,
    document_id: Arc<str>,
    metadata: Arc<BTreeMap<String, String>>,
    live: bool,
}

impl Rows {
    /// Number of rows, dead ones included.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn n_dead(&self) -> usize {
        self.n_dead
    }

    pub(super) fn n_live(&self) -> usize {
        self.rows.len() - self.n_dead
    }

    pub(super) fn has_chunk(&self, chunk_id: &str) -> bool {
        self.chunks.contains_key(chunk_id)
    }

    /// Adds a row for a chunk that has none.
    pub(super) fn add(
        &mut self,
        row: u32,
        chunk_id: &str,
        document_id: &str,
        metadata: &BTreeMap<String, String>,
    ) {
        let (document_id, metadata) = self.shared(document_id, metadata);
        let chunk_id: Arc<str> = Arc::from(chunk_id);
        self.chunks.insert(Arc::clone(&chunk_id), row);
        let document = self.documents.entry(Arc::clone(&document_id));
        document.or_default().push(row);
        self.rows.push(Row {
            chunk_id,
            document_id,
            metadata,
            live: true,
        });
    }

    /// Marks the rows of a document as dead and returns how many there were.
    pub(super) fn remove_document(&mut self, id: &str) -> usize {
        let rows = self.documents.remove(id).unwrap_or_default();
        for &row in &rows {
            let row = &mut self.rows[row as usize];
            row.live = false;
            self.chunks.remove(&row.chunk_id);
        }
        self.n_dead += rows.len();
        rows.len()
    }

    pub(super) fn is_live(&self, row: u32) -> bool {
        self.rows[row as usize].live
    }

    pub(super) fn chunk_id(&self, row: u32) -> &Arc<str> {
        &self.rows[row as usize].chunk_id
    }

    /// The chunk id of a live row that passes the filter.
    pub(super) fn admit(&self, row: u32, filter: &Filter) -> Option<&str> {
        let row = &self.rows[row as usize];
        let passes = row.live && filter.passes(&row.document_id, &row.metadata);
        passes.then_some(&*row.chunk_id)
    }

    pub(super) fn document_id(&self, row: u32) -> &Arc<str> {
        &self.rows[row as usize].document_id
    }

    /// Share of the live rows that pass the filter: an upper bound if it names documents, an
    /// estimate from evenly spaced rows if it is about metadata alone.
    pub(super) fn share(&self, filter: &Filter) -> f64 {
        if filter.is_open() {
            return 1.0;
        }
        if filter.document_ids.is_some() {
            return self.named(filter).count() as f64 / self.n_live().max(1) as f64;
        }
        let step = (self.len() / SAMPLED_ROWS).max(1);
        let sample = (0..self.len()).step_by(step).map(|row| row as u32);
        let (mut live, mut passing) = (0usize, 0usize);
        for row in sample.filter(|&row| self.is_live(row)) {
            live += 1;
            passing += usize::from(self.admit(row, filter).is_some());
        }
        passing as f64 / live.max(1) as f64
    }

    /// Rows that may pass the filter: those of the documents it names, else all.
    pub(super) fn candidates<'r>(
        &'r self,
        filter: &'r Filter,
    ) -> Box<dyn Iterator<Item = u32> + 'r> {
        match filter.document_ids {
            Some(_) => Box::new(self.named(filter)),
            None => Box::new((0..self.len()).map(|row| row as u32)),
        }
    }

    fn named<'r>(&'r self, filter: &'r Filter) -> impl Iterator<Item = u32> + 'r {
        let ids = filter.document_ids.iter().flatten();
        let rows = ids.filter_map(|id| self.documents.get(&**id));
        rows.flatten().copied()
    }

    /// Numbers that leave no gap for dead rows and keep the order of the live ones.
    pub(super) fn packed(&self) -> Vec<Option<u32>> {
        let mut next = 0;
        let mut new_row = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            new_row.push(row.live.then_some(next));
            next += u32::from(row.live);
        }
        new_row
    }

    /// Gives every live row its new number and drops the dead ones.
    pub(super) fn renumber(&mut self, new_row: &[Option<u32>]) {
        let rows = std::mem::take(&mut self.rows).into_iter().zip(new_row);
        let mut kept: Vec<(u32, Row)> = rows
            .filter_map(|(row, new)| new.map(|new| (new, row)))
            .collect();
        kept.sort_by_key(|(new, _)| *new);
        self.rows = kept.into_iter().map(|(_, row)| row).collect();
        self.n_dead = 0;
        let renumber = |row: &mut u32| {
            *row = new_row[*row as usize].expect("the maps hold live rows only");
        };
        self.chunks.values_mut().for_each(renumber);
        self.documents.values_mut().flatten().for_each(renumber);
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
}
