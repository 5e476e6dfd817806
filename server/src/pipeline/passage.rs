//! A chunk on its way into a prompt.

use std::collections::BTreeMap;

use ragweave_store::BlobKey;

use crate::notes::ChunkNotes;

/// A chunk, its origin, and its token ids in this prompt format.
#[derive(Debug, Clone)]
pub struct Passage {
    pub document_id: String,
    pub chunk_id: String,
    /// The chunk is bytes `start_byte..end_byte` of its document's text.
    pub start_byte: u64,
    pub end_byte: u64,
    /// Higher is better; `None` for chunks named by id.
    pub score: Option<f32>,
    pub text: String,
    pub metadata: BTreeMap<String, String>,
    /// Wrapper included.
    pub token_ids: Vec<u32>,
    /// Ids between the conditioning prefix and the chunk when its KV is computed; empty for a chunk alone.
    pub conditioning_ids: Vec<u32>,
    pub key: BlobKey,
    /// What ingest noted for the selection policies; `None` if there are no readable notes.
    pub notes: Option<ChunkNotes>,
}
