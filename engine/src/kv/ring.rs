//! Buffers that go round: taken for a read, given back when what was read has been placed, and
//! taken again by the next layer and the next request without being allocated or cleared.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::buffer::{BlockSpan, HostBuffer};

/// Idle buffers, in the order in which they came back.
pub(crate) struct BufferRing {
    idle: Mutex<Vec<Arc<HostBuffer>>>,
    max_idle_bytes: usize,
}

impl BufferRing {
    /// A ring that keeps so many bytes of buffers for later. What is in use beside them is bounded by
    /// the readers.
    pub(crate) fn new(max_idle_bytes: usize) -> Self {
        Self {
            idle: Mutex::default(),
            max_idle_bytes,
        }
    }

    /// A buffer for `span` that nobody else holds: the smallest idle one that is large enough, or a
    /// new one.
    pub(crate) fn take(&self, span: BlockSpan) -> Arc<HostBuffer> {
        let idle = self.take_idle(span.bytes());
        if let Some(mut buffer) = idle
            && Arc::get_mut(&mut buffer).is_some_and(|buffer| buffer.reuse(span))
        {
            return buffer;
        }
        Arc::new(HostBuffer::new(span))
    }

    fn take_idle(&self, bytes: usize) -> Option<Arc<HostBuffer>> {
        let mut idle = self.lock();
        let fitting = (0..idle.len()).filter(|&i| idle[i].capacity() >= bytes);
        let smallest = fitting.min_by_key(|&i| idle[i].capacity())?;
        Some(idle.remove(smallest))
    }

    /// Takes a buffer back, unless somebody else still holds it. Over the limit, those that have
    /// been idle longest go.
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

    /// The list is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<HostBuffer>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn idle_memory_is_bounded() {
        let half = 8 * 4096;
        let ring = BufferRing::new(2 * half);
        let taken = [half, half, 1].map(|bytes| ring.take(BlockSpan::new(bytes, 0)));
        taken.into_iter().for_each(|buffer| ring.give(buffer));
        assert_eq!(idle(&ring), [half, 4096]);
    }
}
