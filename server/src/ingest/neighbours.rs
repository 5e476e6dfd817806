//! Neighbour conditioning (FusionRAG, arXiv 2601.12904): a chunk's KV is computed while the chunk attends to the chunks
//! most similar to it, because similar text will come before it in a prompt.
//!
//! Documents are first committed without KV, so that all documents of a run can be found. Then each chunk gets its
//! neighbours, and its document is committed again. The neighbours' token ids stay in the chunk's record: they are part
//! of the key of its KV, which outlives the documents they came from.

use std::sync::PoisonError;

use ragweave_retriever::{Embedding, Filter};
use ragweave_store::{ChunkRecord, Document, text_of};

use super::error::IngestError;
use super::prepared::{Prepared, Unconditioned};
use crate::components::Components;
use crate::config::MAX_NEIGHBOURS;
use crate::search_index::Hit;

/// The hash that a document is committed with once its chunks have `n` neighbours each. For 0 it is the hash of the
/// content alone, which a document that waits for its neighbours has too.
pub(super) fn conditioned_hash(content: &[u8; 32], n: usize) -> [u8; 32] {
    if n == 0 {
        return *content;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"ragweave neighbours 1");
    hasher.update(content);
    hasher.update(&(n as u64).to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// Whether a stored document has this content, regardless of the neighbours of its chunks.
pub(super) fn is_of_content(document: &Document, content: &[u8; 32]) -> bool {
    (0..=MAX_NEIGHBOURS).any(|n| document.content_hash == conditioned_hash(content, n))
}

/// The stored document with neighbours for every chunk; `None` if it has been removed or replaced since.
pub(super) fn with_neighbours(
    components: &Components,
    waiting: &Unconditioned,
) -> Result<Option<Prepared>, IngestError> {
    let Some(mut document) = components.store.document(&waiting.document_id)? else {
        return Ok(None);
    };
    if !is_of_content(&document, &waiting.content) {
        return Ok(None);
    }
    let seen = Some(document.content_hash);
    document.content_hash = conditioned_hash(&waiting.content, components.config.ingest.neighbours);
    for chunk in &mut document.chunks {
        let similar = match vector_of(components, chunk, &document.text)? {
            Some(own) => most_similar(components, &chunk.id, &own)?,
            None => Vec::new(),
        };
        let conditioning_ids = neighbour_ids(components, chunk, &similar)?;
        place(components, chunk, conditioning_ids);
    }
    Ok(Some(Prepared {
        document,
        embeddings: None,
        seen,
    }))
}

/// The chunk's vector; `None` for one without a word. It is computed again if the stored one comes from another
/// embedder.
fn vector_of(
    components: &Components,
    chunk: &ChunkRecord,
    document_text: &str,
) -> Result<Option<Embedding>, IngestError> {
    if chunk.vector.is_empty() {
        return Ok(None);
    }
    if let Ok(stored) = Embedding::from_bytes(&chunk.vector, components.embedder.id()) {
        return Ok(Some(stored));
    }
    let text = text_of(document_text, chunk).unwrap_or_default();
    Ok(components
        .embedder
        .embed_documents(&[text])?
        .pop()
        .flatten())
}

/// Other chunks similar to this one, best first; a few more than are needed.
fn most_similar(
    components: &Components,
    chunk_id: &str,
    own: &Embedding,
) -> Result<Vec<Hit>, IngestError> {
    let n = components.config.ingest.neighbours;
    let index = components
        .index
        .read()
        .unwrap_or_else(PoisonError::into_inner);
    // More than are needed, because the search also finds the chunk itself, and copies of its text are left out.
    let mut similar = index.search(own, 2 * n + 1, &Filter::default())?;
    similar.retain(|hit| hit.scored.chunk_id != chunk_id);
    Ok(similar)
}

/// Token ids of the neighbours. The most similar comes last, so that it is nearest to the chunk. Neighbours that do not
/// fit the model's context together with prefix and chunk are left out, the least similar first.
fn neighbour_ids(
    components: &Components,
    chunk: &ChunkRecord,
    similar: &[Hit],
) -> Result<Vec<u32>, IngestError> {
    let mut neighbours = Vec::with_capacity(similar.len());
    for Hit { scored, .. } in similar {
        // `None` if a document was removed by another call since the search.
        let neighbour = components.store.chunk(&scored.chunk_id)?;
        let ids = neighbour.map(|neighbour| neighbour.record.token_ids);
        neighbours.extend(ids.filter(|ids| *ids != chunk.token_ids));
    }
    neighbours.truncate(components.config.ingest.neighbours);
    let prefix = components.prompt.conditioning_prefix().len();
    // The engine requires room for one more token.
    let taken = prefix + chunk.token_ids.len() + 1;
    let room = components
        .engine
        .model()
        .max_model_len
        .saturating_sub(taken);
    Ok(fitting(neighbours, room))
}

/// Takes them best first and returns the most similar last: as many as fit `room` tokens before the first that does not.
fn fitting(neighbours: Vec<Vec<u32>>, room: usize) -> Vec<u32> {
    let mut total = 0;
    let mut kept: Vec<_> = neighbours
        .into_iter()
        .take_while(|ids| {
            total += ids.len();
            total <= room
        })
        .collect();
    kept.reverse();
    kept.concat()
}

/// Places a chunk after its neighbours. Notes belong to their KV, so notes on other KV are dropped.
fn place(components: &Components, chunk: &mut ChunkRecord, conditioning_ids: Vec<u32>) {
    let key = components.blob_key(&conditioning_ids, &chunk.token_ids);
    if key != chunk.key {
        chunk.notes.clear();
    }
    (chunk.key, chunk.conditioning_ids) = (key, conditioning_ids);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_neighbour_stands_last() {
        let best_first = vec![vec![1, 1], vec![2], vec![3, 3, 3]];
        assert_eq!(fitting(best_first.clone(), 6), [3, 3, 3, 2, 1, 1]);
        assert_eq!(fitting(best_first.clone(), 5), [2, 1, 1]);
        assert_eq!(fitting(best_first.clone(), 2), [1, 1]);
        // The second would fit; it does not take the place of the first.
        assert_eq!(fitting(best_first, 1), [0; 0]);
    }

    #[test]
    fn every_number_of_neighbours_has_a_hash_of_its_own() {
        let content = [7; 32];
        assert_eq!(conditioned_hash(&content, 0), content);
        let hashes: std::collections::BTreeSet<_> = (0..=MAX_NEIGHBOURS)
            .map(|n| conditioned_hash(&content, n))
            .collect();
        assert_eq!(hashes.len(), MAX_NEIGHBOURS + 1);
        assert_ne!(conditioned_hash(&[8; 32], 1), conditioned_hash(&content, 1));
    }
}
