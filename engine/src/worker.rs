//! The engine thread and its handle: the only thread that touches the model's device.
//!
//! Requests wait in a bounded queue and run one at a time; chunk KV is computed only while no request
//! waits. After a panic the model is reloaded once; after a second panic the engine is dead. If a request
//! does not fit into device memory, only that request fails.

mod job;
mod memory;
mod queue;
mod thread;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};

use self::job::{Job, Queued};
use self::queue::JobQueue;
pub use self::thread::EngineHealth;
use self::thread::Thread;
use crate::engine::{DeviationMap, Trace, TraceRequest, start_readers};
use crate::error::EngineError;
use crate::fusion::{FuseReport, FusionPlan, Loader, Readers, shared};
use crate::generate::TokenEvent;
use crate::kernel::FusionBackend;
use crate::kv::{ChunkKv, LayerSource};
use crate::model_info::ModelInfo;
use crate::options::EngineOptions;
use crate::sampling::SamplingParams;

/// Events of an answer in addition to one per token: held-back text, and `Finished` or an error.
const EXTRA_EVENTS: usize = 3;

/// One prompt to answer.
pub struct FuseRequest {
    pub plan: FusionPlan,
    /// One per chunk; `None` for a miss.
    pub sources: Vec<Option<Box<dyn LayerSource>>>,
    pub sampling: SamplingParams,
    /// Checked in the queue, between layers and between decode steps.
    pub deadline: Option<Instant>,
}

/// An answer being generated. Dropping it stops the decode within one step.
pub struct Generation {
    pub report: FuseReport,
    events: mpsc::Receiver<Result<TokenEvent, EngineError>>,
}

impl Generation {
    /// The next event; `None` after `Finished` or an error.
    pub async fn next(&mut self) -> Option<Result<TokenEvent, EngineError>> {
        self.events.recv().await
    }
}

/// A cheap handle to the engine thread. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct EngineHandle {
    queue: Arc<JobQueue>,
    info: Arc<ModelInfo>,
    health: watch::Receiver<EngineHealth>,
    readers: Arc<Readers>,
    _closer: Arc<Closer>,
}

/// Closes the queue when the last handle is dropped.
struct Closer(Arc<JobQueue>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl EngineHandle {
    /// Loads the model on a new thread and waits until it is loaded.
    ///
    /// # Errors
    /// As [`crate::Engine::load`]; a device that cannot be opened is `Device`.
    pub fn spawn<B: FusionBackend>(
        options: EngineOptions,
        device: B::Device,
    ) -> Result<Self, EngineError> {
        let info = Arc::new(ModelInfo::read(&options)?);
        let queue = Arc::new(JobQueue::new(options.max_queue));
        let readers = start_readers(options.read_timeout)?;
        let (health_sender, health) = watch::channel(EngineHealth::Serving);
        // Not a tokio channel: callers may be on a runtime's thread, where tokio channels refuse to block.
        let (loaded_sender, loaded) = std::sync::mpsc::sync_channel(1);
        let thread = Thread::<B> {
            options,
            device,
            info: info.clone(),
            queue: queue.clone(),
            readers: readers.clone(),
            health: health_sender,
        };
        std::thread::Builder::new()
            .name("ragweave-engine".into())
            .spawn(move || thread.run(loaded_sender))
            .map_err(|error| EngineError::Device {
                message: error.to_string(),
            })?;
        let loaded = loaded.recv().map_err(|_| EngineError::Device {
            message: "the device could not be opened or the model did not load".into(),
        })?;
        loaded?;
        let closer = Arc::new(Closer(queue.clone()));
        Ok(Self {
            queue,
            info,
            health,
            readers,
            _closer: closer,
        })
    }

    /// What is known about the loaded model.
    pub fn model(&self) -> &Arc<ModelInfo> {
        &self.info
    }

    /// Follows the engine's health.
    pub fn health(&self) -> watch::Receiver<EngineHealth> {
        self.health.clone()
    }

    /// Number of waiting requests, not counting the running one.
    pub fn queue_depth(&self) -> usize {
        self.queue.n_requests()
    }

    /// Number of waiting background jobs: chunk KV for the store, and comparisons.
    pub fn background_depth(&self) -> usize {
        self.queue.n_background()
    }

    /// Fuses a prompt; resolves when the first token's logits exist. Dropping the future cancels.
    ///
    /// # Errors
    /// `QueueFull`, `DeadlineExceeded`, `InvalidSampling`, `Unavailable` after an engine failure.
    pub async fn fuse(&self, request: FuseRequest) -> Result<Generation, EngineError> {
        request.sampling.validate()?;
        let (started, report) = oneshot::channel();
        // Room for every possible event, so that the engine never waits for a slow reader.
        let n_events = request.sampling.max_tokens.min(self.info.max_model_len) + EXTRA_EVENTS;
        let (sender, events) = mpsc::channel(n_events);
        let (submitted, deadline) = (Instant::now(), request.deadline);
        self.queue.push_request(Job::Generate {
            request: self.queued(request, submitted),
            started,
            events: sender,
        })?;
        let report = match deadline {
            None => report.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), report)
                .await
                .map_err(|_| EngineError::DeadlineExceeded {
                    waited: submitted.elapsed(),
                })?,
        };
        let report = report.map_err(|_| engine_failed())??;
        Ok(Generation { report, events })
    }

    /// Logits of the last position, with the report of the prefill.
    ///
    /// # Errors
    /// As [`EngineHandle::fuse`].
    pub async fn logits(
        &self,
        request: FuseRequest,
    ) -> Result<(Vec<f32>, FuseReport), EngineError> {
        let (reply, result) = oneshot::channel();
        self.queue.push_request(Job::Logits {
            request: self.queued(request, Instant::now()),
            reply,
        })?;
        result.await.map_err(|_| engine_failed())?
    }

    /// Runs a prefill while no request waits and returns its report; no answer is generated.
    ///
    /// # Errors
    /// As [`EngineHandle::chunk_kv`].
    pub async fn rehearse(&self, request: FuseRequest) -> Result<FuseReport, EngineError> {
        let (reply, result) = oneshot::channel();
        self.queue.push_background(Job::Logits {
            request: self.queued(request, Instant::now()),
            reply,
        })?;
        let (_, report) = result.await.map_err(|_| engine_failed())??;
        Ok(report)
    }

    /// Logits along a given answer, for comparing modes on the same tokens; while no request waits.
    ///
    /// # Errors
    /// As [`EngineHandle::chunk_kv`]; a forced answer that is too long or has ids outside the vocabulary.
    pub async fn trace(&self, request: TraceRequest) -> Result<Trace, EngineError> {
        let (reply, result) = oneshot::channel();
        self.queue.push_background(Job::Trace { request, reply })?;
        result.await.map_err(|_| engine_failed())?
    }

    /// How far the stored KV of a plan's chunks is from a real full prefill, for evaluation; while no
    /// request waits.
    ///
    /// # Errors
    /// `QueueFull`, and `Unavailable` if stored KV cannot be read.
    pub async fn deviation(
        &self,
        plan: FusionPlan,
        sources: Vec<Option<Box<dyn LayerSource>>>,
    ) -> Result<DeviationMap, EngineError> {
        let (reply, result) = oneshot::channel();
        self.queue.push_background(Job::Deviation {
            plan,
            sources,
            reply,
        })?;
        result.await.map_err(|_| engine_failed())?
    }

    /// KV of one chunk, computed alone after `conditioning`, while no request waits.
    ///
    /// # Errors
    /// As [`crate::Engine::chunk_kv`], `QueueFull` and `Unavailable`.
    pub async fn chunk_kv(
        &self,
        conditioning: Arc<[u32]>,
        chunk_ids: Vec<u32>,
    ) -> Result<ChunkKv, EngineError> {
        self.chunk_kv_among(conditioning, Vec::new(), chunk_ids)
            .await
    }

    /// KV of one chunk, computed after `prefix` and other chunks, to which it attends.
    ///
    /// # Errors
    /// As [`crate::Engine::chunk_kv_among`], `QueueFull` and `Unavailable`.
    pub async fn chunk_kv_among(
        &self,
        prefix: Arc<[u32]>,
        neighbours: Vec<u32>,
        chunk_ids: Vec<u32>,
    ) -> Result<ChunkKv, EngineError> {
        let (reply, result) = oneshot::channel();
        self.queue.push_background(Job::ChunkKv {
            prefix,
            neighbours,
            chunk_ids,
            reply,
        })?;
        result.await.map_err(|_| engine_failed())?
    }

    /// Starts reading what the request needs before the engine thread gets to it.
    fn queued(&self, request: FuseRequest, submitted: Instant) -> Queued {
        let FuseRequest {
            plan,
            sources,
            sampling,
            deadline,
        } = request;
        let identity = &self.info.identity;
        Queued {
            loader: Loader::open(&self.readers, &plan, shared(sources), identity),
            plan,
            sampling,
            deadline,
            submitted,
        }
    }

    /// Makes the engine thread panic with this message, to test recovery.
    ///
    /// # Errors
    /// The error that a request would get.
    #[cfg(feature = "testing")]
    pub async fn panic_for_test(&self, message: &'static str) -> Result<(), EngineError> {
        let (reply, result) = oneshot::channel();
        self.queue.push_request(Job::Panic { message, reply })?;
        result.await.map_err(|_| engine_failed())?
    }
}

fn engine_failed() -> EngineError {
    EngineError::Unavailable {
        message: "the engine failed on this request; try again".into(),
    }
}
