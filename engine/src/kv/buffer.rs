//! Host memory that stored KV is read into: K and V block of one layer of one chunk, each on a page
//! border, as they lie on disk, so that one read fills it and direct IO can.

use std::ops::Range;

use super::host_memory::{HostMemory, PageMemory};

/// Alignment of buffers and of the blocks in them: the page of the store and of direct IO.
pub const BLOCK_ALIGN: usize = 4096;

/// Where K and V block of one chunk's layer lie in a buffer: K at its start, V at the next page
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

    /// Place of the K block, without the zeros behind it.
    pub fn k(&self) -> Range<usize> {
        0..self.k_bytes
    }

    /// Place of the V block, without the zeros behind it.
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

/// Page-aligned memory for one [`BlockSpan`]. It is used again for spans that fit, and then still
/// holds older bytes: whoever fills it fills both blocks.
pub struct HostBuffer {
    memory: PageMemory,
    span: BlockSpan,
}

impl HostBuffer {
    /// A buffer of zeros for `span`.
    pub fn new(span: BlockSpan) -> Self {
        Self::new_in(span, None)
    }

    /// The same in such memory, where it has room.
    pub(crate) fn new_in(span: BlockSpan, memory: Option<&dyn HostMemory>) -> Self {
        let memory = PageMemory::new(span.bytes(), memory);
        Self { memory, span }
    }

    /// Takes the buffer for another span; `false`, and no change, where it is too small.
    pub(crate) fn reuse(&mut self, span: BlockSpan) -> bool {
        let fits = span.bytes() <= self.capacity();
        if fits {
            self.span = span;
        }
        fits
    }

    pub fn span(&self) -> BlockSpan {
        self.span
    }

    /// Bytes of memory held, whatever the span needs.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    pub fn k(&self) -> &[u8] {
        &self.memory.bytes()[self.span.k()]
    }

    pub fn v(&self) -> &[u8] {
        &self.memory.bytes()[self.span.v()]
    }

    /// The K and the V block, to be filled one by one.
    pub fn blocks_mut(&mut self) -> (&mut [u8], &mut [u8]) {
        let (k, v) = (self.span.k(), self.span.v());
        let (head, tail) = self.memory.bytes_mut().split_at_mut(v.start);
        (&mut head[k], &mut tail[..v.len()])
    }

    /// Both blocks with the padding behind each.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory.bytes()[..self.span.bytes()]
    }

    /// Both blocks with the padding behind each, on a page border: what one read fills.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.span.bytes();
        &mut self.memory.bytes_mut()[..len]
    }
}

impl std::fmt::Debug for HostBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostBuffer")
            .field("span", &self.span)
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
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

    #[test]
    fn a_buffer_is_aligned_and_takes_smaller_spans() {
        let mut buffer = HostBuffer::new(BlockSpan::new(5000, 100));
        assert!(
            buffer
                .bytes_mut()
                .as_ptr()
                .addr()
                .is_multiple_of(BLOCK_ALIGN)
        );
        assert!(!buffer.reuse(BlockSpan::new(9000, 100)));
        assert_eq!(buffer.k().len(), 5000);
        assert!(buffer.reuse(BlockSpan::new(10, 20)));
        let (k, v) = buffer.blocks_mut();
        k.fill(1);
        v.fill(2);
        assert_eq!(buffer.bytes_mut().len(), 2 * 4096);
        assert_eq!((buffer.k(), buffer.v()), (&[1; 10][..], &[2; 20][..]));
        assert_eq!(buffer.capacity(), 3 * 4096);
    }
}
