//! Converts between wire messages and the pipeline's types. Only `request` and `fusion` check the numbers, lengths and
//! enums of a request against the server's limits; `response` only translates.

mod check;
mod fusion;
mod request;
mod response;

pub(crate) use request::{
    answer_query, document_format, document_id, page_size, page_start, search_query,
};
pub(crate) use response::{document, document_summary, event, source};
