//! JSON objects, one per line, with errors that say where on the line they are.

use serde::de::DeserializeOwned;

/// Reads one line, which must be an object: serde takes an array of the fields' values, in order,
/// for a struct too. An error has the column, counted from 1 in bytes; the line's number is for the
/// caller to add.
pub(crate) fn parse_line<T: DeserializeOwned>(line: &[u8]) -> anyhow::Result<T> {
    if line.trim_ascii_start().starts_with(b"[") {
        anyhow::bail!("column 1: it is an array, not an object");
    }
    serde_json::from_slice(line).map_err(|error| {
        // The line number inside one line is always 1; the caller knows the file's.
        let message = error.to_string();
        let what = message.split(" at line ").next().unwrap_or_default();
        anyhow::anyhow!("column {}: {what}", error.column())
    })
}

/// The lines of a file that hold something, numbered from 1. A byte order mark is not content.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    (1..)
        .zip(bytes.split(|&byte| byte == b'\n'))
        .filter(|(_, line)| !line.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn lines_keep_their_numbers_and_blank_ones_go() {
        let found: Vec<(usize, &[u8])> = lines(b"\xef\xbb\xbfa\r\n \r\n\nb").collect();
        assert_eq!(found, [(1, &b"a\r"[..]), (4, b"b")]);
    }

    #[test]
    fn errors_name_the_column_and_no_line() {
        let parse = parse_line::<BTreeMap<String, String>>;
        let error = |line: &[u8]| parse(line).unwrap_err().to_string();
        assert_eq!(
            error(b"{\"a\": 7}"),
            "column 7: invalid type: integer `7`, expected a string"
        );
        assert_eq!(
            error(b"{\"\xff\": 1}"),
            "column 3: invalid unicode code point"
        );
    }

    #[test]
    fn an_array_of_values_is_not_an_object() {
        let parse = parse_line::<BTreeMap<String, String>>;
        let error = parse(b" [\"a\"]").unwrap_err().to_string();
        assert_eq!(error, "column 1: it is an array, not an object");
    }
}
