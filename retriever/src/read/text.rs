//! One text or Markdown file, read whole under a limit.

use std::io::Read;
use std::path::Path;

use crate::error::ReadProblem;
use crate::read::utf8;

/// Byte order mark that some editors write first; it is not part of the text.
pub(super) const BOM: &str = "\u{feff}";

/// The text of `path`, without a byte order mark.
///
/// # Errors
/// `Io`, `TooLarge` (nothing beyond the limit is read), `NotUtf8`.
pub(super) fn read(path: &Path, limit_bytes: u64) -> Result<String, ReadProblem> {
    let file = fs_err::File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    if size > limit_bytes {
        return Err(ReadProblem::TooLarge { limit_bytes });
    }
    // The file may grow while it is read: one byte beyond the limit is enough to know.
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(limit_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(io)?;
    let mut text = utf8(bytes)?;
    if text.starts_with(BOM) {
        text.drain(..BOM.len());
    }
    Ok(text)
}

pub(super) fn io(error: std::io::Error) -> ReadProblem {
    ReadProblem::Io { error }
}
