//! Where a blob is stored. The metadata keeps this for each blob.

use super::format::RecordLayout;
use crate::blob::BlobGeometry;

/// The place and shape of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: u64,
    /// Offset of the record in the segment file, in bytes.
    pub(crate) offset: u64,
    pub(crate) geometry: BlobGeometry,
    /// Checksum of the record's head, which contains the checksums of all blocks.
    pub(crate) head_crc: u32,
}

impl Location {
    /// Layout of the record; `None` if the geometry is outside the format's limits.
    pub(crate) fn layout(&self) -> Option<RecordLayout> {
        RecordLayout::new(self.geometry)
    }
}
