//! Checks that a response fits a message. The transport would refuse a larger one without giving a reason.

use prost::Message;

use crate::problem::Problem;

/// The response, if it has at most `limit` bytes; `remedy` is what the client can do, followed by "raise the limit".
pub(super) fn checked<T: Message>(response: T, limit: usize, remedy: &str) -> Result<T, Problem> {
    let bytes = response.encoded_len();
    if bytes > limit {
        return Err(Problem::response_too_large(bytes, limit, remedy));
    }
    Ok(response)
}
