//! Blobs that are written and wait for their commit.

use super::file::Pin;
use super::location::Location;
use crate::blob::BlobKey;

/// A blob that is written but not committed: no lookup finds it, and a crash discards it. If this is
/// dropped, its bytes in the segment are dead.
#[must_use = "a blob is found only after `commit_document` or `commit_blobs`"]
#[derive(Debug)]
pub struct PendingBlob {
    pub(crate) key: BlobKey,
    pub(crate) location: Location,
    /// Keeps the segment from being reclaimed before the commit.
    pub(crate) pin: Pin,
}

impl PendingBlob {
    /// Key under which the blob will be found.
    pub fn key(&self) -> BlobKey {
        self.key
    }
}
