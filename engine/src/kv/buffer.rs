//! Host memory that stored KV is read into: the K and V block of one layer of one chunk, each
//! page-aligned as on disk, so that one read fills it and direct IO works.

use super::host_memory::{HostMemory, PageMemory};
use super::span::BlockSpan;

/// Page-aligned memory for one [`BlockSpan`]. It is reused for spans that fit, and then still
/// holds old bytes, so a reader must fill both blocks.
pub struct HostBuffer {
    memory: PageMemory,
    span: BlockSpan,
}

impl HostBuffer {
    /// A buffer of zeros for `span`.
    pub fn new(span: BlockSpan) -> Self {
        Self::new_in(span, None)
    }

    /// As [`HostBuffer::new`], in `memory` if that has room.
    pub(crate) fn new_in(span: BlockSpan, memory: Option<&dyn HostMemory>) -> Self {
        let memory = PageMemory::new(span.bytes(), memory);
        Self { memory, span }
    }

    /// Assigns the buffer to another span. Returns `false` and changes nothing if it is too small.
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

    /// Bytes of memory held; the span may need fewer.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    pub fn k(&self) -> &[u8] {
        &self.memory.bytes()[self.span.k()]
    }

    pub fn v(&self) -> &[u8] {
        &self.memory.bytes()[self.span.v()]
    }

    /// The K and the V block, to be filled separately.
    pub fn blocks_mut(&mut self) -> (&mut [u8], &mut [u8]) {
        let (k, v) = (self.span.k(), self.span.v());
        let (head, tail) = self.memory.bytes_mut().split_at_mut(v.start);
        (&mut head[k], &mut tail[..v.len()])
    }

    /// Both blocks with the padding after each.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory.bytes()[..self.span.bytes()]
    }

    /// Both blocks with the padding after each, page-aligned, so that one read can fill them.
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
    use super::super::span::BLOCK_ALIGN;
    use super::*;

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
