//! The bounded queue in front of the engine thread: requests first, background work after.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::job::Job;
use crate::error::EngineError;

/// The most background jobs that may wait. Ingest and after-miss work have lower limits of their own.
const MAX_BACKGROUND: usize = 64;

pub(super) struct JobQueue {
    state: Mutex<State>,
    changed: Condvar,
    max_requests: usize,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Job>,
    background: VecDeque<Job>,
    is_closed: bool,
}

impl JobQueue {
    pub(super) fn new(max_requests: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            max_requests,
        }
    }

    /// Adds a request, or fails at once if there is no room.
    pub(super) fn push_request(&self, job: Job) -> Result<(), EngineError> {
        self.push(job, |state| &mut state.requests, self.max_requests)
    }

    /// Adds background work, or fails at once if there is no room.
    pub(super) fn push_background(&self, job: Job) -> Result<(), EngineError> {
        self.push(job, |state| &mut state.background, MAX_BACKGROUND)
    }

    fn push(
        &self,
        job: Job,
        lane: impl Fn(&mut State) -> &mut VecDeque<Job>,
        limit: usize,
    ) -> Result<(), EngineError> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(EngineError::Unavailable {
                message: "the engine has stopped".into(),
            });
        }
        if lane(&mut state).len() >= limit {
            // Only when the queue is full is it worth removing jobs whose callers are gone.
            lane(&mut state).retain(Job::is_wanted);
        }
        if lane(&mut state).len() >= limit {
            return Err(EngineError::QueueFull { limit });
        }
        lane(&mut state).push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for the next job; `None` once closed. Jobs still waiting then are dropped, which
    /// notifies their callers.
    pub(super) fn pop(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(job) = state.requests.pop_front() {
                return Some(job);
            }
            if let Some(job) = state.background.pop_front() {
                return Some(job);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Refuses all further work and drops what waits.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        *state = State {
            is_closed: true,
            ..State::default()
        };
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn n_requests(&self) -> usize {
        self.lock().requests.len()
    }

    pub(super) fn n_background(&self) -> usize {
        self.lock().background.len()
    }

    /// Every change to the state is a single push, pop or replace, so it is safe to ignore poisoning.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
