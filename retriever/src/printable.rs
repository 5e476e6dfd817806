//! File names and other text from outside, escaped so that they can be printed, kept in JSON and
//! told apart.

use std::fmt::{self, Write as _};
use std::path::Path;

/// A path with everything escaped that is not visible text: bytes that are not UTF-8 as `\xe9`,
/// control characters, invisible characters and direction marks as `\n` or `\u{1b}`, and the
/// backslash as `\\`. Two different paths never print alike.
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a>(pub &'a Path);

impl<'a> Printable<'a> {
    /// The same for text that is not a path: a key, an id, a message from another program.
    pub fn text(text: &'a str) -> Self {
        Self(Path::new(text))
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_os_str().as_encoded_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                write_char(f, c)?;
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

fn write_char(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    match c {
        '\\' => f.write_str("\\\\"),
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        c if c.is_control() || is_invisible(c) => write!(f, "{}", c.escape_unicode()),
        c => f.write_char(c),
    }
}

/// Characters that are invisible, break the line, or change the direction of the text after them.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn printed(bytes: &[u8]) -> String {
        Printable(Path::new(OsStr::from_bytes(bytes))).to_string()
    }

    #[test]
    fn what_is_not_visible_text_is_escaped_and_all_else_stays() {
        assert_eq!(printed("notes/été 東京.md".as_bytes()), "notes/été 東京.md");
        assert_eq!(printed(b"b\xe9.txt"), "b\\xe9.txt");
        assert_eq!(printed(b"a\nb\tc\r"), "a\\nb\\tc\\r");
        assert_eq!(printed(b"\x1b[31mred"), "\\u{1b}[31mred");
        assert_eq!(printed("\u{202e}txt.exe".as_bytes()), "\\u{202e}txt.exe");
    }

    #[test]
    fn two_paths_never_print_alike() {
        let names: [&[u8]; 10] = [
            b"\xe9",
            b"\\xe9",
            b"\n",
            b"\\n",
            "é".as_bytes(),
            b"\xc3",
            "\u{200b}".as_bytes(),
            b"\\u{200b}",
            b"",
            "\u{61c}".as_bytes(),
        ];
        let printed: std::collections::BTreeSet<_> = names.map(printed).into();
        assert_eq!(printed.len(), names.len());
    }

    #[test]
    fn no_invisible_character_is_printed() {
        for c in ('\0'..=char::MAX).filter(|&c| c.is_control() || is_invisible(c)) {
            assert!(Printable::text(&c.to_string()).to_string().is_ascii());
        }
        assert_eq!(Printable::text("a\u{200b}\\").to_string(), "a\\u{200b}\\\\");
    }
}
