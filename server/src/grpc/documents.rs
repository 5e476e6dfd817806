//! Listing and showing documents. Blocking.

use prost::Message;
use ragweave_proto::v1;

use super::{convert, sendable};
use crate::components::Components;
use crate::problem::Problem;

/// Bytes that the next page's token (a document id) takes in a message, with its tag and length.
const TOKEN_BYTES: usize = 1024 + 4;
/// Tag and length of one document of a page.
const ENTRY_BYTES: usize = 6;

/// One page in id order: at most as many documents as requested and as fit a message, but at least one. The page token
/// is the last id of the previous page, so it stays valid when documents are added or removed.
pub(super) fn list(
    components: &Components,
    request: &v1::ListDocumentsRequest,
) -> Result<v1::ListDocumentsResponse, Problem> {
    let page_size = convert::page_size(request.page_size)?;
    let after = convert::page_start(&request.page_token)?;
    let max_bytes = components.config.limits.max_message_bytes - TOKEN_BYTES;
    let mut documents: Vec<v1::DocumentSummary> = Vec::new();
    let mut bytes = 0;
    for summary in components.store.documents_after(after) {
        let summary = fitting(convert::document_summary(summary?), max_bytes);
        bytes += summary.encoded_len() + ENTRY_BYTES;
        if documents.len() == page_size || bytes > max_bytes {
            let last = documents.last().map(|document| document.id.clone());
            return Ok(v1::ListDocumentsResponse {
                next_page_token: last.unwrap_or_default(),
                documents,
            });
        }
        documents.push(summary);
    }
    Ok(v1::ListDocumentsResponse {
        documents,
        next_page_token: String::new(),
    })
}

/// The summary, without its metadata if that alone is larger than a page: an earlier version set no limit.
fn fitting(mut summary: v1::DocumentSummary, max_bytes: usize) -> v1::DocumentSummary {
    if summary.encoded_len() + ENTRY_BYTES > max_bytes {
        summary.metadata.clear();
        summary.metadata_omitted = true;
    }
    summary
}

/// One document with its chunks.
pub(super) fn get(components: &Components, id: &str) -> Result<v1::GetDocumentResponse, Problem> {
    let store = &components.store;
    let document = store
        .document(id)?
        .ok_or_else(|| Problem::document_not_found(id))?;
    // A chunk whose KV cannot be looked up is computed when it is used, as if none were stored.
    let has_kv = |key: &_| store.contains_blob(key).unwrap_or(false);
    let response = convert::document(document, |chunk| has_kv(&chunk.key));
    let limit = components.config.limits.max_message_bytes;
    sendable::checked(response, limit, "find its chunks with Retrieve, or")
}
