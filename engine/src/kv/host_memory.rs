//! The memory of host buffers: ordinary, or pinned so that a device can copy from it without the CPU.

use aligned_vec::{AVec, ConstAlign};
use burn::tensor::Bytes;

use super::span::BLOCK_ALIGN;

/// Allocates pinned memory, which a device can copy from without the CPU.
pub trait HostMemory: Send + Sync {
    /// Zeroed memory; `None` if there is none left.
    fn allocate(&self, len: usize) -> Option<Bytes>;
}

/// Page-aligned memory.
pub(super) enum PageMemory {
    Plain(AVec<u8, ConstAlign<BLOCK_ALIGN>>),
    Pinned {
        bytes: Bytes,
        /// The first page-aligned byte.
        first: usize,
    },
}

impl PageMemory {
    /// Zeroed memory, from `memory` if it is given and has room.
    pub(super) fn new(len: usize, memory: Option<&dyn HostMemory>) -> Self {
        let pinned = memory.and_then(|memory| memory.allocate(len + BLOCK_ALIGN));
        let Some(bytes) = pinned else {
            let mut bytes = AVec::new(BLOCK_ALIGN);
            bytes.reserve_exact(len);
            bytes.resize(len, 0);
            return Self::Plain(bytes);
        };
        let address = bytes.as_ptr().addr();
        let first = address.next_multiple_of(BLOCK_ALIGN) - address;
        Self::Pinned { bytes, first }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Plain(bytes) => bytes.len(),
            Self::Pinned { bytes, .. } => bytes.len() - BLOCK_ALIGN,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Pinned { bytes, first } => &bytes[*first..*first + bytes.len() - BLOCK_ALIGN],
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        match self {
            Self::Plain(bytes) => bytes,
            Self::Pinned { bytes, first } => &mut bytes[*first..*first + len],
        }
    }
}
