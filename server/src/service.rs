//! The part shared by all front ends, independent of any wire format: places for calls, deadlines, and the work itself.
//! A front end checks and converts a request, takes a place here, and converts the result back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

mod admission;
mod answering;
mod call;
mod readiness;

pub use admission::{Activity, Permit};
pub(crate) use answering::Answering;
pub(crate) use call::Call;
pub(crate) use readiness::Readiness;

use crate::blocking::{self, Panicked};
use crate::components::Components;
use crate::ingest::{Ingestor, Patience};
use crate::pipeline::{Passage, Pipeline, Query};
use crate::problem::Problem;
use admission::Admission;

/// IngestDocuments calls that may be open at once; each holds one document in memory.
const MAX_INGEST_STREAMS: usize = 4;
/// Retrieve, GetDocument, ListDocuments and GetStats calls that may run at once in total: each may hold a thread and a
/// whole response.
const MAX_READS: usize = 64;
/// DeleteDocument calls that may run at once: commits are serialised, and reads must not wait for them.
const MAX_DELETES: usize = 16;

/// The service over one set of components. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    components: Components,
    pipeline: Pipeline,
    ingestor: Ingestor,
    answers: Admission,
    ingests: Admission,
    reads: Admission,
    deletes: Admission,
    /// No new calls are accepted.
    draining: CancellationToken,
    /// Running calls must end now.
    stopping: CancellationToken,
    started: Instant,
    n_requests: AtomicU64,
}

/// What a call does: each kind has its own number of places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    Answer,
    Ingest,
    /// Calls that only read.
    Read,
    Delete,
}

impl Service {
    /// Must be called within a tokio runtime, as [`Pipeline::new`].
    pub fn new(components: &Components) -> Self {
        // As many as the engine's queue holds, so that an admitted call never finds the queue full.
        let limits = &components.config.limits;
        let max_answers = limits.max_queue;
        let patience = Patience {
            chunk: limits.max_engine_wait,
            document: limits.max_document_time,
        };
        let shared = Shared {
            pipeline: Pipeline::new(components),
            ingestor: Ingestor::new(components).with_patience(patience),
            components: components.clone(),
            answers: Admission::new(max_answers),
            ingests: Admission::new(MAX_INGEST_STREAMS),
            reads: Admission::new(MAX_READS),
            deletes: Admission::new(MAX_DELETES),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            started: Instant::now(),
            n_requests: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    pub fn components(&self) -> &Components {
        &self.shared.components
    }

    pub fn pipeline(&self) -> &Pipeline {
        &self.shared.pipeline
    }

    /// Counts of the calls for answers; changes can be awaited.
    pub fn activity(&self) -> watch::Receiver<Activity> {
        self.shared.answers.activity()
    }

    pub(crate) fn ingestor(&self) -> &Ingestor {
        &self.shared.ingestor
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// A place for one more call.
    ///
    /// # Errors
    /// All places are taken, or the server is shutting down.
    pub(crate) fn admit(&self, kind: CallKind) -> Result<Permit, Problem> {
        if self.shared.draining.is_cancelled() {
            return Err(Problem::shutting_down());
        }
        let admission = match kind {
            CallKind::Answer => &self.shared.answers,
            CallKind::Ingest => &self.shared.ingests,
            CallKind::Read => &self.shared.reads,
            CallKind::Delete => &self.shared.deletes,
        };
        let permit = admission.admit();
        permit.ok_or_else(|| Problem::queue_full(admission.limit()))
    }

    /// The passages an answer would start from.
    ///
    /// # Errors
    /// Those of [`Pipeline::retrieve`] and of the call.
    pub(crate) async fn retrieve(&self, call: Call, query: Query) -> Result<Vec<Passage>, Problem> {
        let service = self.clone();
        call.run(async move { service.pipeline().retrieve(query).await })
            .await
    }

    /// Removes a document.
    ///
    /// # Errors
    /// There is no document with this id; those of [`Ingestor::delete`] and of the call.
    pub(crate) async fn delete(&self, call: Call, document_id: String) -> Result<(), Problem> {
        let service = self.clone();
        let deleting = async move {
            match service.ingestor().delete(&document_id).await? {
                true => Ok(()),
                false => Err(Problem::document_not_found(&document_id)),
            }
        };
        call.run(deleting).await
    }

    /// Reads the store outside the async threads.
    ///
    /// # Errors
    /// Those of the work and of the call.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&Components) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let service = self.clone();
        call.run(blocking::run(move || work(service.components())))
            .await
    }

    /// Refuses new calls from now on.
    pub(crate) fn drain(&self) {
        self.shared.draining.cancel();
    }

    /// Ends running calls.
    pub(crate) fn stop(&self) {
        self.shared.stopping.cancel();
    }

    /// Resolves when running calls must end.
    pub(crate) async fn stopped(&self) {
        self.shared.stopping.cancelled().await;
    }

    /// Resolves when no answer and no ingest is running.
    pub(crate) async fn idle(&self) {
        self.shared.answers.idle().await;
        self.shared.ingests.idle().await;
    }

    /// Writes what the controller has learned.
    pub(crate) async fn write_rates(&self) {
        let service = self.clone();
        let writing = blocking::run(move || {
            service.pipeline().write_rates();
            Ok::<_, Panicked>(())
        });
        if let Err(panic) = writing.await {
            tracing::warn!(%panic, "learned rates were not written");
        }
    }

    /// An id for requests whose client chose none, unique within this process.
    fn next_request_id(&self) -> String {
        let n = self.shared.n_requests.fetch_add(1, Ordering::Relaxed) + 1;
        format!("r{n}")
    }
}
