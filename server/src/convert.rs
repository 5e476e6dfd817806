//! Between wire messages and the pipeline's types. `request` is the one place where numbers, lengths and enums of
//! a request are checked against the server's limits, with `fusion` for its fusion options; `response` only translates.

mod fusion;
mod request;
mod response;

pub use request::{
    answer_query, document_format, document_id, page_size, page_start, search_query,
};
pub use response::{document, document_summary, event, source};
