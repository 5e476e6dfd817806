//! The embedding of a chunk's text, the same at ingest and when vectors are recomputed.

use ragweave_retriever::{Embedder, Embedding, RetrieverError};

/// The embedding of a chunk; `None` for one without a word, such as a line of dashes: it is stored but never found.
pub(crate) fn embed(
    embedder: &dyn Embedder,
    text: &str,
) -> Result<Option<Embedding>, RetrieverError> {
    match embedder.embed_document(text) {
        Ok(embedding) => Ok(Some(embedding)),
        Err(RetrieverError::BlankText) => Ok(None),
        Err(error) => Err(error),
    }
}
