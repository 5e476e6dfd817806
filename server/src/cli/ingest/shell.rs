//! Paths as words of a shell command that a user may copy.

use std::path::Path;

/// The path as one word: bare if that is safe, else in quotes; bytes that a terminal does not show unchanged are
/// written in the `$'..'` of bash, zsh and POSIX 2024.
pub(super) fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    match path.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_plain) => text.to_owned(),
        Some(text) if !text.contains(char::is_control) => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ => format!("$'{}'", bytes.iter().map(escaped).collect::<String>()),
    }
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || "/._-+,:@%".contains(c)
}

fn escaped(byte: &u8) -> String {
    match byte {
        b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
        b' '..=b'~' => char::from(*byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_back_the_very_bytes() {
        let names: [&[u8]; 9] = [
            b"docs/a.txt",
            "\u{e9}t\u{e9}".as_bytes(),
            b"my docs",
            b"it's",
            b"$(rm x) `y` \"z\" \\ * ~",
            b"b\xe9'\\.txt",
            b"a\nb\x1b[31m",
            b"",
            b"-x",
        ];
        for name in names {
            let word = quoted(Path::new(OsStr::from_bytes(name)));
            assert!(!word.contains(char::is_control), "{word:?}");
            let script = format!("printf -- %s {word}");
            let printed = Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(printed.stdout, name, "{word}");
        }
        assert_eq!(quoted(Path::new("docs/a.txt")), "docs/a.txt");
    }
}
