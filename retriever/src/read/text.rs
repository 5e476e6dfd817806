//! One text or Markdown file, read whole up to a size limit.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::ReadProblem;

/// Byte order mark that some editors write first; it is not part of the text.
pub(super) const BOM: &str = "\u{feff}";

/// The text of `path` up to its length when opened, without a byte order mark.
///
/// # Errors
/// `Io`, `TooLarge` (nothing is read), `NotUtf8`.
pub(super) fn read(path: &Path, limit_bytes: u64) -> Result<String, ReadProblem> {
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    if size > limit_bytes {
        return Err(ReadProblem::TooLarge { limit_bytes });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(size).read_to_end(&mut bytes).map_err(io)?;
    let mut text = utf8(bytes)?;
    if text.starts_with(BOM) {
        text.drain(..BOM.len());
    }
    Ok(text)
}

fn io(error: io::Error) -> ReadProblem {
    ReadProblem::Io { error }
}

/// The bytes as text, or an error if they are not UTF-8.
pub(super) fn utf8(bytes: Vec<u8>) -> Result<String, ReadProblem> {
    String::from_utf8(bytes).map_err(|error| ReadProblem::NotUtf8 {
        valid_bytes: error.utf8_error().valid_up_to(),
    })
}
