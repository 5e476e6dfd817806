//! Intermediate states of a document during an ingest.

use ragweave_retriever::Embedding;
use ragweave_store::Document;

use crate::search_index::Version;

/// A document that is ready to be committed, except for its KV.
pub(super) struct Prepared {
    pub(super) document: Document,
    /// One per chunk, `None` for a chunk that cannot be found. Absent if the index already holds the same vectors.
    pub(super) embeddings: Option<Vec<Option<Embedding>>>,
    /// The version it is to replace.
    pub(super) seen: Option<Version>,
}

/// A document that is in the store without the neighbours its chunks should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unconditioned {
    pub(super) document_id: String,
    /// Hash of its content and chunking; a document that has been replaced since has a different one.
    pub(super) content: [u8; 32],
    /// Whether its KV is left to the first use.
    pub(super) no_kv: bool,
}

impl Unconditioned {
    pub fn document_id(&self) -> &str {
        &self.document_id
    }
}

impl Prepared {
    /// The work that remains after it is committed without neighbours.
    pub(super) fn waiting(&self, no_kv: bool) -> Unconditioned {
        Unconditioned {
            document_id: self.document.id.clone(),
            content: self.document.content_hash,
            no_kv,
        }
    }
}
