//! Reused buffers: taken for a read, given back when what was read has been placed, and
//! taken again by the next layer and the next request without being allocated or cleared.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::buffer::HostBuffer;
use super::host_memory::HostMemory;
use super::span::BlockSpan;

/// Idle buffers, in the order in which they were returned.
pub(crate) struct BufferRing {
    idle: Mutex<Vec<Arc<HostBuffer>>>,
    max_idle_bytes: usize,
    /// Where new buffers are allocated.
    memory: OnceLock<Arc<dyn HostMemory>>,
}

impl BufferRing {
    /// A ring that keeps up to this many bytes of idle buffers. Those in use are bounded by
    /// the readers, and on GPUs by the copies under way.
    pub(crate) fn new(max_idle_bytes: usize) -> Self {
        Self {
            idle: Mutex::default(),
            max_idle_bytes,
            memory: OnceLock::new(),
        }
    }

    /// Allocates new buffers in `memory`. Only the first call has an effect.
    pub(crate) fn allocate_in(&self, memory: Arc<dyn HostMemory>) {
        let _ = self.memory.set(memory);
    }

    /// A buffer for `span` with no other owner: the smallest idle one that is large enough, or a
    /// new one.
    pub(crate) fn take(&self, span: BlockSpan) -> Arc<HostBuffer> {
        let idle = self.take_idle(span.bytes());
        if let Some(mut buffer) = idle
            && Arc::get_mut(&mut buffer).is_some_and(|buffer| buffer.reuse(span))
        {
            return buffer;
        }
        let memory = self.memory.get().map(|memory| &**memory);
        Arc::new(HostBuffer::new_in(span, memory))
    }

    fn take_idle(&self, bytes: usize) -> Option<Arc<HostBuffer>> {
        let mut idle = self.lock();
        let fitting = (0..idle.len()).filter(|&i| idle[i].capacity() >= bytes);
        let smallest = fitting.min_by_key(|&i| idle[i].capacity())?;
        Some(idle.remove(smallest))
    }

    /// Takes a buffer back, unless it still has another owner. Over the limit, buffers that have
    /// been idle longest are dropped.
    pub(crate) fn give(&self, mut buffer: Arc<HostBuffer>) {
        if Arc::get_mut(&mut buffer).is_none() {
            return;
        }
        let mut idle = self.lock();
        idle.push(buffer);
        let mut bytes: usize = idle.iter().map(|buffer| buffer.capacity()).sum();
        let mut surplus = 0;
        while bytes > self.max_idle_bytes {
            bytes -= idle[surplus].capacity();
            surplus += 1;
        }
        let surplus: Vec<_> = idle.drain(..surplus).collect();
        drop(idle);
        drop(surplus); // freed outside of the lock
    }

    #[cfg(test)]
    pub(crate) fn n_idle(&self) -> usize {
        self.lock().len()
    }

    /// A panic while the lock is held leaves the list valid.
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<HostBuffer>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that returns to its ring when its last holder drops it.
pub(crate) struct Lent {
    /// `None` only while it is being dropped.
    block: Option<Arc<HostBuffer>>,
    ring: Arc<BufferRing>,
}

impl Lent {
    pub(crate) fn new(block: Arc<HostBuffer>, ring: &Arc<BufferRing>) -> Self {
        Self {
            block: Some(block),
            ring: Arc::clone(ring),
        }
    }

    pub(crate) fn k(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| block.k())
    }

    pub(crate) fn v(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| block.v())
    }

    /// Both blocks with the padding after each, for a holder that may outlive this one.
    pub(crate) fn share(lent: &Arc<Self>) -> bytes::Bytes {
        bytes::Bytes::from_owner(Whole(Arc::clone(lent)))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.ring.give(block);
        }
    }
}

/// All bytes of a lent buffer.
struct Whole(Arc<Lent>);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        self.0.block.as_ref().map_or(&[], |block| block.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(ring: &BufferRing) -> Vec<usize> {
        ring.lock().iter().map(|buffer| buffer.capacity()).collect()
    }

    #[test]
    fn a_buffer_comes_round_again() {
        let ring = BufferRing::new(1 << 20);
        let small = ring.take(BlockSpan::new(10, 10));
        let large = ring.take(BlockSpan::new(9000, 10));
        let address = small.k().as_ptr();
        ring.give(large);
        ring.give(small);
        assert_eq!(idle(&ring), [4 * 4096, 2 * 4096]);
        let again = ring.take(BlockSpan::new(20, 5));
        assert_eq!((again.k().as_ptr(), again.k().len()), (address, 20));
        assert_eq!(idle(&ring), [4 * 4096]);
    }

    #[test]
    fn a_buffer_that_is_held_elsewhere_does_not_come_back() {
        let ring = BufferRing::new(1 << 20);
        let buffer = ring.take(BlockSpan::new(10, 10));
        let held = Arc::clone(&buffer);
        ring.give(buffer);
        assert!(idle(&ring).is_empty());
        ring.give(held);
        assert_eq!(idle(&ring), [2 * 4096]);
    }

    #[test]
    fn a_lent_buffer_comes_back_with_its_last_holder() {
        let ring = Arc::new(BufferRing::new(1 << 20));
        let mut buffer = ring.take(BlockSpan::new(3, 2));
        let (k, v) = Arc::get_mut(&mut buffer).unwrap().blocks_mut();
        k.fill(7);
        v.fill(8);
        let lent = Arc::new(Lent::new(buffer, &ring));
        let whole = Lent::share(&lent);
        let v = whole.slice(4096..4098);
        drop(lent);
        drop(whole);
        assert!(idle(&ring).is_empty());
        assert_eq!(v[..], [8, 8]);
        drop(v);
        assert_eq!(idle(&ring), [2 * 4096]);
    }

    #[test]
    fn idle_memory_is_bounded() {
        let half = 8 * 4096;
        let ring = BufferRing::new(2 * half);
        let taken = [half, half, 1].map(|bytes| ring.take(BlockSpan::new(bytes, 0)));
        taken.into_iter().for_each(|buffer| ring.give(buffer));
        assert_eq!(idle(&ring), [half, 4096]);
    }
}
