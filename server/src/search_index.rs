//! The searchable state: the vector index, and for each document the version whose chunks are in it.
//!
//! A document is replaced first in the store and right after that here. A search in between finds chunks of the old
//! version and loads the new one under the same ids; the version distinguishes them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ragweave_retriever::{
    DumpError, Embedding, Filter, GraphDone, GraphDump, GraphStatus, GraphTask, IndexOptions,
    Replaced, RetrieverError, Scored, VectorIndex,
};
use ragweave_store::Document;

pub mod keeper;

/// A document's content hash.
pub type Version = [u8; 32];

/// The index and the versions of the documents in it.
#[derive(Debug, Default)]
pub struct SearchIndex {
    index: VectorIndex,
    versions: HashMap<String, Version>,
}

/// A found chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub scored: Scored,
    /// The version of its document that was searched.
    pub version: Version,
}

impl SearchIndex {
    /// An empty index.
    pub fn new(options: IndexOptions) -> Self {
        Self {
            index: VectorIndex::new(options),
            versions: HashMap::new(),
        }
    }

    /// Number of chunks that can be found.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is nothing to find.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The best chunks that pass the filter, best first; see [`VectorIndex::search`].
    ///
    /// # Errors
    /// As [`VectorIndex::search`].
    pub fn search(
        &self,
        query: &Embedding,
        top_k: usize,
        filter: &Filter,
    ) -> Result<Vec<Hit>, RetrieverError> {
        let scored = self.index.search(query, top_k, filter)?;
        let hit = |scored: Scored| {
            let version = self.versions.get(&scored.document_id).copied();
            Hit {
                version: version.unwrap_or_default(),
                scored,
            }
        };
        Ok(scored.into_iter().map(hit).collect())
    }

    /// Adds one chunk of a stored document.
    ///
    /// # Errors
    /// As [`VectorIndex::insert`].
    pub fn insert(
        &mut self,
        chunk_id: &str,
        document_id: &str,
        version: Version,
        metadata: &BTreeMap<String, String>,
        embedding: Embedding,
    ) -> Result<(), RetrieverError> {
        self.index
            .insert(chunk_id, document_id, metadata, embedding)?;
        self.set_version(document_id, version);
        Ok(())
    }

    /// Replaces the earlier version of a document. A chunk without an embedding cannot be found.
    ///
    /// # Errors
    /// As [`VectorIndex::insert`].
    pub fn replace(
        &mut self,
        document: &Document,
        embeddings: Vec<Option<Embedding>>,
    ) -> Result<(), RetrieverError> {
        self.remove(&document.id);
        for (chunk, embedding) in document.chunks.iter().zip(embeddings) {
            let Some(embedding) = embedding else { continue };
            let (version, metadata) = (document.content_hash, &document.metadata);
            self.insert(&chunk.id, &document.id, version, metadata, embedding)?;
        }
        Ok(())
    }

    /// Sets a new version of a document that has the same chunks and vectors.
    pub fn set_version(&mut self, document_id: &str, version: Version) {
        match self.versions.get_mut(document_id) {
            Some(shown) => *shown = version,
            None => {
                self.versions.insert(document_id.to_owned(), version);
            }
        }
    }

    /// As [`VectorIndex::graph_status`].
    pub fn graph_status(&self) -> GraphStatus {
        self.index.graph_status()
    }

    /// As [`VectorIndex::graph_task`].
    pub fn graph_task(&self) -> Option<GraphTask> {
        self.index.graph_task()
    }

    /// As [`VectorIndex::install`].
    pub fn install(&mut self, done: GraphDone) -> Replaced {
        self.index.install(done)
    }

    /// As [`VectorIndex::dump`].
    pub fn dump(&self, embedder_id: &str) -> Option<GraphDump> {
        self.index.dump(embedder_id)
    }

    /// As [`VectorIndex::restore`].
    ///
    /// # Errors
    /// As there.
    pub fn restore(&mut self, dir: &Path, embedder_id: &str) -> Result<(), DumpError> {
        self.index.restore(dir, embedder_id)
    }

    /// Removes a document.
    pub fn remove(&mut self, document_id: &str) {
        self.index.remove_document(document_id);
        self.versions.remove(document_id);
    }
}
