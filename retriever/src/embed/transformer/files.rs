//! Reads files of a sentence-transformers directory. Every file has a largest size, and JSON files
//! have an object at the top.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::embed::open_error::OpenEmbedderError;

/// The largest JSON file that is read, bytes. Real ones have a few kilobytes.
pub(super) const MAX_JSON_BYTES: u64 = 16 << 20;
/// What Git LFS leaves in place of a file that was not fetched.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The contents of a file of at most `max_bytes`.
pub(super) fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, OpenEmbedderError> {
    let refuse = |message: String| OpenEmbedderError::file(path, message);
    let unreadable = |error: std::io::Error| refuse(format!("cannot read it: {error}"));
    let n_bytes = fs_err::metadata(path).map_err(unreadable)?.len();
    if n_bytes > max_bytes {
        return Err(refuse(format!(
            "has {n_bytes} bytes, more than the {max_bytes} allowed for this file"
        )));
    }
    let bytes = fs_err::read(path).map_err(unreadable)?;
    if bytes.starts_with(LFS_POINTER) {
        let message = "is a Git LFS pointer, which only names the real file; run `git lfs pull` in \
                       its directory, or download this file";
        return Err(refuse(message.to_owned()));
    }
    Ok(bytes)
}

/// A JSON object and the file it comes from.
#[derive(Debug)]
pub(super) struct JsonFile {
    pub(super) path: PathBuf,
    fields: Map<String, Value>,
}

impl JsonFile {
    pub(super) fn read(path: PathBuf) -> Result<Self, OpenEmbedderError> {
        match read_json(&path, MAX_JSON_BYTES)? {
            Value::Object(fields) => Ok(Self { path, fields }),
            _ => Err(OpenEmbedderError::file(&path, "is not a JSON object")),
        }
    }

    pub(super) fn read_if_present(path: PathBuf) -> Result<Option<Self>, OpenEmbedderError> {
        path.exists().then(|| Self::read(path)).transpose()
    }

    /// The value of a field; `None` if it is missing or null.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, OpenEmbedderError> {
        self.typed(key, "text", Value::as_str)
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, OpenEmbedderError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, OpenEmbedderError> {
        self.typed(key, "a number", Value::as_f64)
    }

    pub(super) fn count(&self, key: &str) -> Result<Option<usize>, OpenEmbedderError> {
        self.typed(key, "a whole number", |value| {
            value.as_u64().and_then(|n| usize::try_from(n).ok())
        })
    }

    /// A count that must be there and be at least 1.
    pub(super) fn size(&self, key: &str) -> Result<usize, OpenEmbedderError> {
        match self.count(key)? {
            Some(size) if size > 0 => Ok(size),
            Some(_) => Err(self.refuse(format!("{key} is 0"))),
            None => Err(self.refuse(format!("has no {key}"))),
        }
    }

    pub(super) fn refuse(&self, message: impl Into<String>) -> OpenEmbedderError {
        OpenEmbedderError::file(&self.path, message)
    }

    pub(super) fn unsupported(&self, message: impl Into<String>) -> OpenEmbedderError {
        OpenEmbedderError::unsupported(&self.path, message)
    }

    fn typed<'v, T>(
        &'v self,
        key: &str,
        expected: &str,
        read: impl Fn(&'v Value) -> Option<T>,
    ) -> Result<Option<T>, OpenEmbedderError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let typed = read(value);
        let wrong = || self.refuse(format!("{key} is {value}, expected {expected}"));
        typed.map(Some).ok_or_else(wrong)
    }
}

/// A JSON file with any value at the top.
pub(super) fn read_json(path: &Path, max_bytes: u64) -> Result<Value, OpenEmbedderError> {
    parse(&read(path, max_bytes)?, path)
}

/// The contents of the file at `path` as JSON.
pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Value, OpenEmbedderError> {
    serde_json::from_slice(bytes)
        .map_err(|error| OpenEmbedderError::file(path, format!("is not valid JSON: {error}")))
}
