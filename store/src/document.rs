//! Documents and their chunks as callers see them, and the rules a document must follow.

use std::collections::BTreeMap;

use crate::blob::BlobKey;
use crate::error::StoreError;

/// Longest document id in bytes.
pub const MAX_DOCUMENT_ID_BYTES: usize = 1024;
/// Longest notes of a chunk in bytes.
pub const MAX_NOTES_BYTES: usize = 4096;

/// A document with its text, cut into chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub id: String,
    pub text: String,
    pub metadata: BTreeMap<String, String>,
    /// Hash over everything that, when it changes, must cause the document to be ingested again.
    pub content_hash: [u8; 32],
    /// In reading order.
    pub chunks: Vec<ChunkRecord>,
}

/// One chunk of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRecord {
    /// `{document id}#{position in Document::chunks}`
    pub id: String,
    /// The chunk is `text[start_byte..end_byte]`.
    pub start_byte: u64,
    pub end_byte: u64,
    pub token_ids: Vec<u32>,
    /// Token ids between the caller's common prefix and the chunk when the blob was made; empty for
    /// a chunk that was computed alone. `key` covers them as it covers `token_ids`.
    pub conditioning_ids: Vec<u32>,
    /// Key of the chunk's blob. The blob need not exist.
    pub key: BlobKey,
    /// Opaque to the store.
    pub vector: Vec<u8>,
    /// What the caller wants to know about the chunk without opening its blob. Opaque to the store,
    /// at most [`MAX_NOTES_BYTES`].
    pub notes: Vec<u8>,
}

/// What `Store::list_documents` returns for each document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentSummary {
    pub id: String,
    pub n_chunks: u64,
    /// Tokens of all its chunks.
    pub n_tokens: u64,
    pub text_bytes: u64,
    pub metadata: BTreeMap<String, String>,
}

/// A chunk with its text and its document's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    pub document_id: String,
    pub record: ChunkRecord,
    pub text: String,
    pub metadata: BTreeMap<String, String>,
    /// Of the document.
    pub content_hash: [u8; 32],
}

/// One row of `Store::for_each_vector`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorRow {
    pub chunk_id: String,
    pub document_id: String,
    pub metadata: BTreeMap<String, String>,
    /// Of the document.
    pub content_hash: [u8; 32],
    pub vector: Vec<u8>,
}

/// Id of the chunk at `position` of a document.
pub(crate) fn chunk_id(document_id: &str, position: u32) -> String {
    format!("{document_id}#{position}")
}

/// Splits a chunk id; `None` when it is not `{document id}#{position}` as [`chunk_id`] prints it.
pub(crate) fn parse_chunk_id(id: &str) -> Option<(&str, u32)> {
    let (document_id, position) = id.rsplit_once('#')?;
    let position: u32 = position.parse().ok()?;
    (chunk_id(document_id, position) == id).then_some((document_id, position))
}

impl Document {
    /// Tokens of all chunks.
    pub fn n_tokens(&self) -> u64 {
        self.chunks
            .iter()
            .map(|chunk| chunk.token_ids.len() as u64)
            .sum()
    }

    /// Checks what later reads rely on, before anything is written.
    pub(crate) fn validate(&self) -> Result<(), StoreError> {
        let invalid = |what| {
            Err(StoreError::InvalidDocument {
                id: self.id.clone(),
                what,
            })
        };
        if self.id.is_empty() || self.id.len() > MAX_DOCUMENT_ID_BYTES {
            return invalid(format!(
                "its id must have 1 to {MAX_DOCUMENT_ID_BYTES} bytes"
            ));
        }
        if u32::try_from(self.chunks.len()).is_err() {
            return invalid("it has more than 2^32 chunks".to_owned());
        }
        for (position, chunk) in (0..).zip(&self.chunks) {
            let expected = chunk_id(&self.id, position);
            if chunk.id != expected {
                return invalid(format!(
                    "chunk {:?} should be called {expected:?}",
                    chunk.id
                ));
            }
            if text_of(&self.text, chunk).is_none() {
                let (start, end) = (chunk.start_byte, chunk.end_byte);
                return invalid(format!(
                    "chunk {position} ({start}..{end}) is outside its text or splits a character"
                ));
            }
            if chunk.notes.len() > MAX_NOTES_BYTES {
                let n_bytes = chunk.notes.len();
                return invalid(format!(
                    "chunk {position} has {n_bytes} bytes of notes, more than {MAX_NOTES_BYTES}"
                ));
            }
        }
        Ok(())
    }
}

/// The chunk's part of its document's text; `None` when its borders do not fit the text.
pub fn text_of<'t>(text: &'t str, chunk: &ChunkRecord) -> Option<&'t str> {
    let start = usize::try_from(chunk.start_byte).ok()?;
    text.get(start..usize::try_from(chunk.end_byte).ok()?)
}
