//! Builds the index at start: from the stored vectors, and from the text of a chunk whose vector cannot be read or
//! comes from another embedder than the one in use.
//!
//! Such vectors are replaced in the store too. Each names the embedder that made it, so this can be interrupted at any
//! point: the next start continues with those that are left.

use std::time::{Duration, Instant};

use ragweave_retriever::{Embedder, Embedding, IndexOptions, RetrieverError};
use ragweave_store::{Document, Store, StoreError, text_of};

use crate::embedder::stored_vector;
use crate::error::ServerError;
use crate::search_index::SearchIndex;

/// Vectors replaced in one durable step.
const VECTORS_PER_WRITE: usize = 4096;
/// Chunks whose text is embedded at once, unless one document alone has more.
const CHUNKS_PER_BATCH: usize = 256;
/// How often the log reports progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Where recomputed vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewed {
    /// Into the store too, in place of the old ones.
    Stored,
    /// Into the index only: the store belongs to another model, or is opened only for reading.
    InMemory,
}

/// Builds the index.
///
/// # Errors
/// [`ServerError::Index`] if a vector does not fit the others; an error of the store if it cannot be read.
pub(super) fn load(
    store: &Store,
    embedder: &dyn Embedder,
    renewed: Renewed,
    options: IndexOptions,
) -> Result<SearchIndex, ServerError> {
    let mut index = SearchIndex::new(options);
    let outdated = insert_current(store, embedder, &mut index)?;
    if outdated.is_empty() {
        return Ok(index);
    }
    let mut renewal = Renewal::new(store, renewed);
    let mut progress = Progress::new(outdated.len(), embedder);
    let mut batch = Vec::new();
    let mut n_chunks = 0;
    for id in outdated {
        let Some(document) = store.document(&id)? else {
            continue;
        };
        n_chunks += document.chunks.len();
        batch.push(document);
        if n_chunks >= CHUNKS_PER_BATCH {
            embed_again(embedder, &batch, &mut renewal, &mut index)?;
            progress.add(batch.len(), n_chunks);
            batch.clear();
            n_chunks = 0;
        }
    }
    embed_again(embedder, &batch, &mut renewal, &mut index)?;
    progress.add(batch.len(), n_chunks);
    renewal.write();
    progress.end();
    Ok(index)
}

/// Puts the vectors that this embedder made into the index. Returns the ids of the documents that have other vectors.
fn insert_current(
    store: &Store,
    embedder: &dyn Embedder,
    index: &mut SearchIndex,
) -> Result<Vec<String>, ServerError> {
    let mut outdated: Vec<String> = Vec::new();
    let mut failure = None;
    // A remote embedder that does not answer does not know the width of its vectors.
    let mut expected = embedder.width();
    store.for_each_vector(|row| {
        // A chunk without a word has no vector and cannot be found. The chunks of a document follow each other.
        if row.vector.is_empty() || outdated.last() == Some(&row.document_id) {
            return Ok(());
        }
        match stored_vector(&row.vector, embedder.id(), &mut expected) {
            Ok(embedding) => {
                let (version, metadata) = (row.content_hash, &row.metadata);
                let (chunk, document) = (&row.chunk_id, &row.document_id);
                let added = index.insert(chunk, document, version, metadata, embedding);
                failure = failure.take().or(added.err());
            }
            Err(error) => {
                tracing::debug!(chunk = row.chunk_id, %error, "a vector cannot be used");
                outdated.push(row.document_id);
            }
        }
        Ok(())
    })?;
    if let Some(width) = expected {
        embedder.expect_width(width);
    }
    failure.map_or(Ok(outdated), |error| Err(error.into()))
}

/// Embeds the chunks of some documents together, and puts the vectors into the store and the index.
fn embed_again(
    embedder: &dyn Embedder,
    documents: &[Document],
    renewal: &mut Renewal<'_>,
    index: &mut SearchIndex,
) -> Result<(), ServerError> {
    let chunks = documents.iter().flat_map(|document| {
        let chunks = document.chunks.iter();
        chunks.map(|chunk| text_of(&document.text, chunk).unwrap_or_default())
    });
    let texts: Vec<&str> = chunks.collect();
    let mut embeddings = embedder.embed_documents(&texts)?.into_iter();
    for document in documents {
        let own: Vec<_> = embeddings.by_ref().take(document.chunks.len()).collect();
        renewal.add(document, &own, embedder.id())?;
        index.replace(document, own)?;
    }
    Ok(())
}

/// Reports in the log how far the embedding has come: with a large corpus it takes minutes.
struct Progress {
    documents: usize,
    documents_done: usize,
    chunks_done: usize,
    since: Instant,
    reported: Instant,
}

impl Progress {
    fn new(documents: usize, embedder: &dyn Embedder) -> Self {
        let embedder = embedder.description();
        tracing::info!(documents, embedder, "embedding again from the text");
        Self {
            documents,
            documents_done: 0,
            chunks_done: 0,
            since: Instant::now(),
            reported: Instant::now(),
        }
    }

    fn add(&mut self, documents: usize, chunks: usize) {
        self.documents_done += documents;
        self.chunks_done += chunks;
        if self.reported.elapsed() >= REPORT_INTERVAL {
            self.reported = Instant::now();
            let (done, of, chunks) = (self.documents_done, self.documents, self.chunks_done);
            tracing::info!(done, of, chunks, "embedding again");
        }
    }

    fn end(&self) {
        let seconds = self.since.elapsed().as_secs_f64();
        let (documents, chunks) = (self.documents_done, self.chunks_done);
        tracing::info!(documents, chunks, seconds, "embedded again");
    }
}

/// Vectors to be written into the store.
struct Renewal<'s> {
    store: &'s Store,
    renewed: Renewed,
    /// Chunk ids and the bytes of their vectors.
    waiting: Vec<(String, Vec<u8>)>,
}

impl<'s> Renewal<'s> {
    fn new(store: &'s Store, renewed: Renewed) -> Self {
        Self {
            store,
            renewed,
            waiting: Vec::new(),
        }
    }

    fn add(
        &mut self,
        document: &Document,
        embeddings: &[Option<Embedding>],
        embedder_id: &str,
    ) -> Result<(), RetrieverError> {
        if self.renewed == Renewed::InMemory {
            return Ok(());
        }
        for (chunk, embedding) in document.chunks.iter().zip(embeddings) {
            let bytes = embedding.as_ref().map(|e| e.to_bytes(embedder_id));
            let bytes = bytes.transpose()?.unwrap_or_default();
            self.waiting.push((chunk.id.clone(), bytes));
        }
        if self.waiting.len() >= VECTORS_PER_WRITE {
            self.write();
        }
        Ok(())
    }

    /// The index is right whether or not this succeeds; without it, the next start embeds again.
    fn write(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let written = match self.renewed {
            Renewed::Stored if !waiting.is_empty() => self.store.replace_vectors(&waiting),
            _ => Ok(()),
        };
        if let Err(error) = written {
            self.renewed = Renewed::InMemory;
            not_stored(&error);
        }
    }
}

fn not_stored(error: &StoreError) {
    tracing::warn!(%error, "the new vectors cannot be stored; the next start computes them again");
}
