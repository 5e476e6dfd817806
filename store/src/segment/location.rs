//! Where a blob is stored, as the metadata records it.

use super::format::RecordLayout;
use crate::blob::BlobGeometry;

/// The place and shape of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: u64,
    /// Offset of the record in the segment file, in bytes.
    pub(crate) offset: u64,
    pub(crate) geometry: BlobGeometry,
    /// Checksum of the record's head, which in turn names every block's checksum.
    pub(crate) head_crc: u32,
}

impl Location {
    /// Size of the record in bytes; `None` when the geometry is outside the format's limits.
    pub(crate) fn layout(&self) -> Option<RecordLayout> {
        RecordLayout::new(self.geometry)
    }
}
