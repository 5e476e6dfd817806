//! Where the K and the V block of one layer of one chunk are in memory and on disk.

use std::ops::Range;

/// Alignment of buffers and of the blocks in them: the page of the store and of direct IO.
pub const BLOCK_ALIGN: usize = 4096;

/// Where the K and V blocks of one chunk's layer lie in a buffer: K at its start, V at the next page
/// border. The two may differ in length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockSpan {
    k_bytes: usize,
    v_bytes: usize,
}

impl BlockSpan {
    pub fn new(k_bytes: usize, v_bytes: usize) -> Self {
        Self { k_bytes, v_bytes }
    }

    /// Place of the K block, without the padding after it.
    pub fn k(&self) -> Range<usize> {
        0..self.k_bytes
    }

    /// Place of the V block, without the padding after it.
    pub fn v(&self) -> Range<usize> {
        let start = self.k_bytes.next_multiple_of(BLOCK_ALIGN);
        start..start + self.v_bytes
    }

    /// Bytes of both blocks, each padded to whole pages.
    pub fn bytes(&self) -> usize {
        self.v().end.next_multiple_of(BLOCK_ALIGN)
    }

    /// Bytes of both blocks without padding.
    pub fn payload_bytes(&self) -> usize {
        self.k_bytes + self.v_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_begin_on_page_borders() {
        let span = BlockSpan::new(100, 5000);
        assert_eq!((span.k(), span.v()), (0..100, 4096..9096));
        assert_eq!((span.bytes(), span.payload_bytes()), (3 * 4096, 5100));
        let whole = BlockSpan::new(4096, 8192);
        assert_eq!((whole.v(), whole.bytes()), (4096..12288, 12288));
        assert_eq!(BlockSpan::new(0, 0).bytes(), 0);
    }
}
