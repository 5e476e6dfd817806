//! The state shared by all steps of an ingest, and how they run blocking work.

use std::any::Any;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::counters::IngestCounters;
use super::error::IngestError;
use crate::blocking::{self, Begun};
use crate::components::Components;

/// How long an ingest waits for the engine, which serves requests first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the KV of one chunk.
    pub chunk: Duration,
    /// For all KV of one document.
    pub document: Duration,
}

/// Ingests and deletes documents, several at a time. Clones share everything.
#[derive(Clone)]
pub struct Ingestor {
    pub(super) components: Components,
    pub(super) counters: Arc<IngestCounters>,
    /// `None` if nothing else uses the engine.
    pub(super) patience: Option<Patience>,
    /// Kept until all work begun on the blocking pool has ended, even if the caller has gone.
    place: Option<Arc<dyn Any + Send + Sync>>,
    /// Serialises commits: two versions of one document must not interleave between store and index. Locked only where
    /// blocking is allowed, and never while waiting for the engine.
    pub(super) turn: Arc<Mutex<()>>,
}

impl Ingestor {
    pub fn new(components: &Components) -> Self {
        Self {
            components: components.clone(),
            counters: Arc::default(),
            patience: None,
            place: None,
            turn: Arc::default(),
        }
    }

    /// The same, with limits on the wait for an engine that also serves requests.
    pub fn with_patience(self, patience: Patience) -> Self {
        Self {
            patience: Some(patience),
            ..self
        }
    }

    /// The same for a caller that may go away at any time: `place` is dropped once all work that was begun has ended.
    pub fn holding(&self, place: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            place: Some(place),
            ..self.clone()
        }
    }

    /// Running totals, for progress displays.
    pub fn counters(&self) -> &Arc<IngestCounters> {
        &self.counters
    }

    /// Runs disk or tokenizer work where blocking is allowed.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, IngestError> + Send + 'static,
    ) -> Result<T, IngestError> {
        self.begin(work).join().await
    }

    /// The same as a task, which runs to its end even if its result is never awaited.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, IngestError> + Send + 'static,
    ) -> Begun<T, IngestError> {
        let place = self.place.clone();
        blocking::begin(move || {
            let _place = place;
            work()
        })
    }
}
