//! The queue of the embedder's thread. Questions go before documents: someone waits for them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Most batches that wait in each lane. A caller waits until there is room.
const MAX_WAITING: usize = 64;

/// Who waits for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Question,
    Document,
}

/// A bounded queue with two lanes, for one taker.
pub(super) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Condvar,
}

struct Waiting<T> {
    questions: VecDeque<T>,
    documents: VecDeque<T>,
    is_closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let waiting = Waiting {
            questions: VecDeque::new(),
            documents: VecDeque::new(),
            is_closed: false,
        };
        Self {
            waiting: Mutex::new(waiting),
            changed: Condvar::new(),
        }
    }

    /// Adds a batch, once there is room. `false` if the queue is closed.
    pub(super) fn put(&self, lane: Lane, batch: T) -> bool {
        let waiting = self.lock();
        let is_full = |waiting: &mut Waiting<T>| {
            !waiting.is_closed && waiting.lane(lane).len() >= MAX_WAITING
        };
        let waiting = self.changed.wait_while(waiting, is_full);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        if waiting.is_closed {
            return false;
        }
        waiting.lane(lane).push_back(batch);
        self.changed.notify_all();
        true
    }

    /// The next batch, once there is one; questions first. `None` once the queue is closed.
    pub(super) fn take(&self) -> Option<T> {
        let waiting = self.lock();
        let is_idle = |waiting: &mut Waiting<T>| {
            !waiting.is_closed && waiting.questions.is_empty() && waiting.documents.is_empty()
        };
        let waiting = self.changed.wait_while(waiting, is_idle);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let question = waiting.questions.pop_front();
        let batch = question.or_else(|| waiting.documents.pop_front());
        self.changed.notify_all();
        batch
    }

    /// Lets no batch in any more and drops those that wait.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        waiting.questions.clear();
        waiting.documents.clear();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Waiting<T> {
    fn lane(&mut self, lane: Lane) -> &mut VecDeque<T> {
        match lane {
            Lane::Question => &mut self.questions,
            Lane::Document => &mut self.documents,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_go_before_documents_and_each_lane_keeps_its_order() {
        let queue = Queue::new();
        for (lane, batch) in [
            (Lane::Document, 1),
            (Lane::Document, 2),
            (Lane::Question, 3),
            (Lane::Question, 4),
        ] {
            assert!(queue.put(lane, batch));
        }
        let taken: Vec<_> = (0..4).map(|_| queue.take()).collect();
        assert_eq!(taken, [Some(3), Some(4), Some(1), Some(2)]);
    }

    #[test]
    fn a_full_lane_waits_for_room_and_does_not_stop_the_other_one() {
        let queue = Queue::new();
        for batch in 0..MAX_WAITING {
            assert!(queue.put(Lane::Document, batch));
        }
        std::thread::scope(|scope| {
            let late = scope.spawn(|| queue.put(Lane::Document, MAX_WAITING));
            assert!(queue.put(Lane::Question, 1000));
            assert_eq!(queue.take(), Some(1000));
            assert!(!late.is_finished());
            assert_eq!(queue.take(), Some(0));
            assert!(late.join().unwrap());
        });
    }

    #[test]
    fn closing_ends_both_sides() {
        let queue = Queue::new();
        assert!(queue.put(Lane::Document, 1));
        queue.close();
        assert_eq!(queue.take(), None);
        assert!(!queue.put(Lane::Question, 2));
    }
}
