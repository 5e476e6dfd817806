//! Where a chunk lies in its document.

/// A chunk, as the half-open byte range `start..end` of its document; both are char borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSpan {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}
