//! Errors are sent in HTTP headers, and clients accept 8 KiB of headers in total. Text from a request must not make an
//! error larger than that.

/// Longest message. It is sent three times: twice in base64, and once percent-encoded with up to three bytes for each.
pub(super) const MAX_MESSAGE_BYTES: usize = 1024;
/// Longest value in the details, an id for example.
pub(super) const MAX_VALUE_BYTES: usize = 256;

const MARK: &str = "…";

/// The text, or as much of its beginning as fits into `max_bytes` with a mark after it.
pub(super) fn shortened(mut text: String, max_bytes: usize) -> String {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes.saturating_sub(MARK.len())));
        text.push_str(MARK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_ends_in_a_mark_and_is_cut_between_characters() {
        assert_eq!(shortened("as it is".to_owned(), 8), "as it is");
        assert_eq!(shortened("too long".to_owned(), 7), "too …");
        assert_eq!(shortened("ééééé".to_owned(), 8), "éé…");
    }
}
