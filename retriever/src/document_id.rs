//! What a document may be called: one rule for files, JSONL records and requests.

use thiserror::Error;

/// Longest document id, in bytes; ids become keys of the store and fields of messages.
pub const MAX_DOCUMENT_ID_BYTES: usize = 1024;

/// Why a document cannot have an id. Each text continues a sentence that begins with the id's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadDocumentId {
    /// Empty, or nothing but white space.
    #[error("is blank")]
    Blank,
    /// Longer than [`MAX_DOCUMENT_ID_BYTES`].
    #[error("has more than {MAX_DOCUMENT_ID_BYTES} bytes")]
    TooLong,
    /// A control character, which includes line feed and tab, or a Unicode line or paragraph
    /// separator: the id would not stay on one line of a list or a log.
    #[error("contains a control character or a line break")]
    Unprintable,
    /// The name of a file is not UTF-8, so it is not text.
    #[error("is a file name that is not UTF-8")]
    NotUtf8,
}

/// Checks a document id, wherever it comes from.
///
/// # Errors
/// [`BadDocumentId`] says what is wrong with it.
pub fn check_document_id(id: &str) -> Result<(), BadDocumentId> {
    if id.trim().is_empty() {
        Err(BadDocumentId::Blank)
    } else if id.len() > MAX_DOCUMENT_ID_BYTES {
        Err(BadDocumentId::TooLong)
    } else if id.chars().any(is_unprintable) {
        Err(BadDocumentId::Unprintable)
    } else {
        Ok(())
    }
}

fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_printable_line_of_bounded_length() {
        for good in ["a", " a b ", "notes/été.md", "#", &"x".repeat(1024)] {
            assert_eq!(check_document_id(good), Ok(()), "{good:?}");
        }
        for blank in ["", " ", "\u{3000}", "\n"] {
            assert_eq!(check_document_id(blank), Err(BadDocumentId::Blank));
        }
        let too_long = "é".repeat(513);
        assert_eq!(check_document_id(&too_long), Err(BadDocumentId::TooLong));
        for c in [
            '\n', '\r', '\t', '\0', '\u{1b}', '\u{85}', '\u{2028}', '\u{2029}',
        ] {
            let id = format!("a{c}b");
            assert_eq!(
                check_document_id(&id),
                Err(BadDocumentId::Unprintable),
                "{id:?}"
            );
        }
    }
}
