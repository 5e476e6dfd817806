//! Listing and showing documents. Blocking.

use prost::Message;
use ragweave_proto::v1;

use crate::components::Components;
use crate::convert;
use crate::status::Problem;

/// One page in id order. The page token is the last id of the page before: it stays valid whatever is added or removed.
pub(super) fn list(
    components: &Components,
    request: &v1::ListDocumentsRequest,
) -> Result<v1::ListDocumentsResponse, Problem> {
    let page_size = convert::page_size(request.page_size)?;
    let after = (!request.page_token.is_empty()).then_some(request.page_token.as_str());
    // One more than asked for tells whether there is a next page.
    let mut documents = components.store.list_documents(after, page_size + 1)?;
    let is_last = documents.len() <= page_size;
    documents.truncate(page_size);
    let last_id = documents.last().map(|document| document.id.clone());
    let page = v1::ListDocumentsResponse {
        next_page_token: if is_last {
            String::new()
        } else {
            last_id.unwrap_or_default()
        },
        documents: documents
            .into_iter()
            .map(convert::document_summary)
            .collect(),
    };
    sendable(components, page)
}

/// One document with its chunks.
pub(super) fn get(components: &Components, id: &str) -> Result<v1::GetDocumentResponse, Problem> {
    let store = &components.store;
    let document = store
        .document(id)?
        .ok_or_else(|| Problem::document_not_found(id))?;
    // A chunk whose KV cannot be looked up will be computed when it is used, as if it had none.
    let has_kv = |key: &_| store.contains_blob(key).unwrap_or(false);
    let response = convert::document(document, |chunk| has_kv(&chunk.key));
    sendable(components, response)
}

/// The response, if a message may carry it; the transport would refuse it without a reason.
fn sendable<T: Message>(components: &Components, response: T) -> Result<T, Problem> {
    let (bytes, limit) = (
        response.encoded_len(),
        components.config.limits.max_message_bytes,
    );
    if bytes > limit {
        Err(Problem::response_too_large(bytes, limit))
    } else {
        Ok(response)
    }
}
