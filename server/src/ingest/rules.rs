//! Rules that a document must meet to be ingested. They need neither model nor store, and are the same for files and
//! requests.

use ragweave_retriever::{BadDocumentId, SourceDocument, check_document_id};

use super::error::IngestError;
use super::metadata::check_metadata;
use crate::config::Limits;

/// Checks id, text and metadata.
///
/// # Errors
/// [`IngestError`] states which of them is wrong, and names the limit.
pub(crate) fn check(source: &SourceDocument, limits: &Limits) -> Result<(), IngestError> {
    check_document_id(&source.id).map_err(|why: BadDocumentId| IngestError::BadId { why })?;
    check_metadata(&source.metadata, limits.max_metadata_bytes())?;
    let (bytes, limit) = (source.text.len(), limits.max_document_bytes);
    if bytes > limit {
        return Err(IngestError::TooLarge { bytes, limit });
    }
    if source.text.trim().is_empty() {
        return Err(IngestError::Empty);
    }
    Ok(())
}
