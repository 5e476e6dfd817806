//! `FORMAT`, the marker of a store: its version, what a reader must support, and what the KV was made with.
//!
//! Lines after the first are `requires NAME = VALUE` or `NAME = VALUE`. The first kind is room for what
//! KV will come to depend on: today each has one value, and a store that requires another one, or a
//! name that is not known here, is refused by name. The second kind is for people and for defaults.

use std::io::{self, Read as _};
use std::path::Path;

use crate::error::StoreError;
use crate::identity::Fields;

/// Version of the directory layout and of the metadata tables that new stores get.
pub const STORE_VERSION: u32 = 2;
/// The first version. Its marker has no lines after the first, and all else is the same.
const FIRST_VERSION: u32 = 1;
/// What a reader must support: the name and the only value of each, as the KV of version 1 was made.
pub const REQUIREMENTS: [(&str, &str); 3] = [
    ("tenant", ""),
    ("contexts", "1"),
    ("kernel_precision", "plain"),
];
const REQUIRES: &str = "requires ";
const FORMAT_WORD: &str = "ragweave-store";
/// An upper limit for the marker of any version.
pub(crate) const MAX_MARKER_BYTES: u64 = 4096;

/// Whether a marker's text is that of a store of some version.
pub(crate) fn is_marker(text: &str) -> bool {
    text.starts_with(FORMAT_WORD)
}

/// Text of a file that may be a marker; an error of kind `InvalidData` if it cannot be one.
pub(crate) fn read_marker(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = fs_err::File::open(path)?;
    file.take(MAX_MARKER_BYTES + 1).read_to_string(&mut text)?;
    match text.len() as u64 <= MAX_MARKER_BYTES {
        true => Ok(text),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "too long")),
    }
}

/// The fields of the store in `dir`, whose marker is `text`.
///
/// Errors: `NotAStore` for any other text, `UnsupportedVersion`, `UnsupportedRequirement`.
pub(crate) fn parse_marker(dir: &Path, text: &str) -> Result<Fields, StoreError> {
    let not_a_store = || StoreError::NotAStore {
        path: dir.to_owned(),
    };
    let mut lines = text.lines();
    let version = lines.next().and_then(|line| line.strip_prefix(FORMAT_WORD));
    match version.and_then(|version| version.trim().parse().ok()) {
        Some(FIRST_VERSION..=STORE_VERSION) => {}
        Some(found) => {
            return Err(StoreError::UnsupportedVersion {
                path: dir.to_owned(),
                found,
                supported: STORE_VERSION,
            });
        }
        None => return Err(not_a_store()),
    }
    let mut fields = Fields::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once('=').ok_or_else(not_a_store)?;
        let (name, value) = (name.trim(), value.trim());
        match name.strip_prefix(REQUIRES) {
            Some(name) => check_requirement(dir, name.trim(), value)?,
            None => drop(fields.insert(name.to_owned(), value.to_owned())),
        }
    }
    Ok(fields)
}

fn check_requirement(dir: &Path, name: &str, value: &str) -> Result<(), StoreError> {
    let known = REQUIREMENTS.iter().find(|(known, _)| *known == name);
    match known {
        Some((_, supported)) if *supported == value => Ok(()),
        _ => Err(StoreError::UnsupportedRequirement {
            path: dir.to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
            supported: known.map(|(_, supported)| *supported),
        }),
    }
}

/// Text of the marker of a new store. `InvalidInput` if a field does not fit a line of its own.
pub(crate) fn marker_text(fields: &Fields) -> io::Result<String> {
    let mut text = format!("{FORMAT_WORD} {STORE_VERSION}\n");
    for (name, value) in REQUIREMENTS {
        text += &format!("{REQUIRES}{name} = {value}\n");
    }
    for (name, value) in fields {
        text += &format!("{name} = {value}\n");
    }
    let is_read_back = parse_marker(Path::new(""), &text).is_ok_and(|read| read == *fields);
    if is_read_back && text.len() as u64 <= MAX_MARKER_BYTES {
        return Ok(text);
    }
    let why = "a field of the store's identity has a line break, or is too long";
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn fields_are_read_as_they_were_written() {
        let fields = fields(&[("kv_dtype", "int8"), ("model", "a = b"), ("empty", "")]);
        let text = marker_text(&fields).unwrap();
        assert_eq!(
            text,
            "ragweave-store 2\nrequires tenant = \nrequires contexts = 1\n\
             requires kernel_precision = plain\nempty = \nkv_dtype = int8\nmodel = a = b\n"
        );
        assert_eq!(parse_marker(Path::new("d"), &text).unwrap(), fields);
    }

    #[test]
    fn fields_that_could_not_be_read_back_are_not_written() {
        let long = "x".repeat(5000);
        for (name, value) in [
            ("a", "b\nc = d"),
            ("a", " b"),
            ("a=b", "c"),
            ("requires a", "b"),
            ("a", &*long),
        ] {
            let error = marker_text(&fields(&[(name, value)])).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}={value}");
        }
    }

    #[test]
    fn what_is_required_and_not_supported_is_refused_by_name() {
        let refusal = |line: &str| {
            let text = format!("ragweave-store 2\n{line}\n");
            parse_marker(Path::new("d"), &text).unwrap_err().to_string()
        };
        for (line, expected) in [
            (
                "requires tenant = acme",
                "d requires tenant = \"acme\", and this version reads only \"\"",
            ),
            (
                "requires contexts = 4",
                "d requires contexts = \"4\", and this version reads only \"1\"",
            ),
            (
                "requires kernel_precision = tf32",
                "d requires kernel_precision = \"tf32\", and this version reads only \"plain\"",
            ),
            (
                "requires colour = red",
                "d requires colour = \"red\", which this version does not know",
            ),
        ] {
            let refused = refusal(line);
            assert!(refused.starts_with(expected), "{refused}");
            assert!(refused.contains("newer version of ragweave"), "{refused}");
        }
    }
}
