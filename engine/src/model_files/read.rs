//! Reads one file of a model. Files beyond their size limit and Git LFS pointers are refused.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::fields::Fields;
use crate::error::EngineError;

/// The largest JSON side file that is read, bytes. Real ones are a few kilobytes; a
/// `tokenizer_config.json` with many added tokens reaches about one megabyte.
const MAX_JSON_BYTES: u64 = 16 << 20;

/// The start of the text that replaces a file kept by Git LFS (or by Xet, which uses the same text) in Git, and in
/// a clone without the large files.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The contents of `path`, of at most `max_bytes`.
///
/// # Errors
/// [`EngineError::ModelFile`] when the file is missing, larger, or a Git LFS pointer.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, EngineError> {
    let refuse = |message: String| EngineError::model_file(path, message);
    // The error of fs_err already names the file.
    let len = fs_err::metadata(path)
        .map_err(|error| refuse(error.to_string()))?
        .len();
    if len > max_bytes {
        return Err(refuse(format!(
            "{len} bytes are more than the {max_bytes} allowed for this file"
        )));
    }
    let bytes = fs_err::read(path).map_err(|error| refuse(error.to_string()))?;
    match is_pointer(&bytes) {
        true => Err(refuse(POINTER_MESSAGE.to_owned())),
        false => Ok(bytes),
    }
}

/// The error message for a file for which [`is_pointer`] holds.
pub(crate) const POINTER_MESSAGE: &str = "is a Git LFS pointer, which only names the real file; run `git lfs pull` in the model's \
     directory, or download this file";

/// Whether a file that begins with `bytes` is a Git LFS pointer.
pub(crate) fn is_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(POINTER)
}

/// Length of the beginning that [`is_pointer`] looks at, bytes.
pub(crate) const POINTER_BYTES: usize = POINTER.len();

/// A JSON file of a model, with the path that errors name.
#[derive(Debug)]
pub(crate) struct JsonFile {
    pub(crate) path: PathBuf,
    pub(crate) value: Value,
}

impl JsonFile {
    /// Reads `path` as one JSON value.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] when the file is missing, larger than 16 MiB, a Git LFS pointer or
    /// not JSON.
    pub(crate) fn read(path: PathBuf) -> Result<Self, EngineError> {
        let value = parse(&read(&path, MAX_JSON_BYTES)?, &path)?;
        Ok(Self { path, value })
    }

    /// Reads `path` when it exists.
    pub(crate) fn read_if_present(path: PathBuf) -> Result<Option<Self>, EngineError> {
        path.exists().then(|| Self::read(path)).transpose()
    }

    /// The fields of the top-level object.
    pub(crate) fn fields(&self) -> Result<Fields<'_>, EngineError> {
        Fields::root(&self.value, &self.path)
    }
}

/// The contents of the file at `path` as JSON.
pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Value, EngineError> {
    serde_json::from_slice(bytes)
        .map_err(|error| EngineError::model_file(path, format!("not valid JSON: {error}")))
}
