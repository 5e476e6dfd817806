//! The engine thread and its handle: the only thread that touches the model's device.
//!
//! Requests wait in a bounded queue and run one at a time; chunk KV is made only while no request
//! waits. After a panic the model is reloaded once; after a second one the engine is dead. A request
//! that does not fit into the device's memory fails alone.

mod memory;
mod queue;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};

use self::memory::{panic_message, within_memory};
use self::queue::JobQueue;
use crate::engine::{DeviationMap, Engine, Sequence, Trace, TraceRequest, start_readers};
use crate::error::EngineError;
use crate::fusion::{FuseReport, FusionPlan, Loader, Readers, shared};
use crate::generate::{Closed, TokenEvent, generate};
use crate::kernel::FusionBackend;
use crate::kv::{ChunkKv, LayerSource};
use crate::model_info::ModelInfo;
use crate::options::EngineOptions;
use crate::sampling::SamplingParams;

/// Events of an answer beside one per token: held-back text, and `Finished` or an error.
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

/// What the engine thread is doing about its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineHealth {
    Serving,
    /// A panic was caught; the model is being loaded again.
    Reloading,
    /// A second panic, or the reload failed. The process should exit non-zero.
    Dead,
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

/// A request in the queue. Its stored KV is being read, if it is next.
struct Queued {
    plan: FusionPlan,
    loader: Loader,
    sampling: SamplingParams,
    deadline: Option<Instant>,
    submitted: Instant,
}

/// Work for the engine thread.
enum Job {
    Generate {
        request: Queued,
        started: oneshot::Sender<Result<FuseReport, EngineError>>,
        events: mpsc::Sender<Result<TokenEvent, EngineError>>,
    },
    Logits {
        request: Queued,
        reply: oneshot::Sender<Result<(Vec<f32>, FuseReport), EngineError>>,
    },
    Trace {
        request: TraceRequest,
        reply: oneshot::Sender<Result<Trace, EngineError>>,
    },
    Deviation {
        plan: FusionPlan,
        sources: Vec<Option<Box<dyn LayerSource>>>,
        reply: oneshot::Sender<Result<DeviationMap, EngineError>>,
    },
    ChunkKv {
        prefix: Arc<[u32]>,
        neighbours: Vec<u32>,
        chunk_ids: Vec<u32>,
        reply: oneshot::Sender<Result<ChunkKv, EngineError>>,
    },
    /// Panics on the engine thread with these words.
    #[cfg(feature = "testing")]
    Panic {
        message: &'static str,
        reply: oneshot::Sender<Result<(), EngineError>>,
    },
}

impl Job {
    /// Whether somebody still waits for it.
    fn is_wanted(&self) -> bool {
        match self {
            Self::Generate { started, .. } => !started.is_closed(),
            Self::Logits { reply, .. } => !reply.is_closed(),
            Self::Trace { reply, .. } => !reply.is_closed(),
            Self::Deviation { reply, .. } => !reply.is_closed(),
            Self::ChunkKv { reply, .. } => !reply.is_closed(),
            #[cfg(feature = "testing")]
            Self::Panic { .. } => true,
        }
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

/// Closes the queue with the last handle.
struct Closer(Arc<JobQueue>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl EngineHandle {
    /// Loads the model on a thread of its own and waits until it is loaded.
    ///
    /// # Errors
    /// As [`Engine::load`]; a device that cannot be opened is `Device`.
    pub fn spawn<B: FusionBackend>(
        options: EngineOptions,
        device: B::Device,
    ) -> Result<Self, EngineError> {
        let info = Arc::new(ModelInfo::read(&options)?);
        let queue = Arc::new(JobQueue::new(options.max_queue));
        let readers = start_readers(options.read_timeout)?;
        let (health_sender, health) = watch::channel(EngineHealth::Serving);
        // Not a tokio channel: callers may be on a runtime's thread, where those refuse to block.
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

    /// What is known of the loaded model.
    pub fn model(&self) -> &Arc<ModelInfo> {
        &self.info
    }

    /// Follows the engine's health.
    pub fn health(&self) -> watch::Receiver<EngineHealth> {
        self.health.clone()
    }

    /// Requests waiting, without the one running.
    pub fn queue_depth(&self) -> usize {
        self.queue.n_requests()
    }

    /// Background work waiting: chunk KV for the store, comparisons.
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
        // Room for every event there can be: the engine never waits for a caller that reads slowly.
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

    /// Runs a prefill while no request waits, and tells what it took: nothing is answered.
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
    /// As [`EngineHandle::chunk_kv`]; a forced answer that is too long or not of the vocabulary.
    pub async fn trace(&self, request: TraceRequest) -> Result<Trace, EngineError> {
        let (reply, result) = oneshot::channel();
        self.queue.push_background(Job::Trace { request, reply })?;
        result.await.map_err(|_| engine_failed())?
    }

    /// How far the stored KV of a plan's chunks is from a real full prefill, for evaluation; while no
    /// request waits.
    ///
    /// # Errors
    /// `QueueFull`, and `Unavailable` where stored KV cannot be read.
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

    /// KV of one chunk, computed alone behind `conditioning`, while no request waits.
    ///
    /// # Errors
    /// As [`Engine::chunk_kv`], `QueueFull` and `Unavailable`.
    pub async fn chunk_kv(
        &self,
        conditioning: Arc<[u32]>,
        chunk_ids: Vec<u32>,
    ) -> Result<ChunkKv, EngineError> {
        self.chunk_kv_among(conditioning, Vec::new(), chunk_ids)
            .await
    }

    /// KV of one chunk, computed behind `prefix` and other chunks it attends to.
    ///
    /// # Errors
    /// As [`Engine::chunk_kv_among`], `QueueFull` and `Unavailable`.
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

    /// Begins to read what the request needs, before the engine thread has time for it.
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

    /// Makes the engine thread panic with these words, for tests of the recovery.
    ///
    /// # Errors
    /// What a request would get.
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

/// The engine thread's own state.
struct Thread<B: FusionBackend> {
    options: EngineOptions,
    device: B::Device,
    info: Arc<ModelInfo>,
    queue: Arc<JobQueue>,
    readers: Arc<Readers>,
    health: watch::Sender<EngineHealth>,
}

impl<B: FusionBackend> Thread<B> {
    fn run(self, loaded: SyncSender<Result<(), EngineError>>) {
        let mut engine = match self.load() {
            Ok(engine) => engine,
            Err(error) => {
                let _ = loaded.send(Err(error)); // `spawn` is waiting for it
                return;
            }
        };
        if loaded.send(Ok(())).is_err() {
            return;
        }
        if self.work(&mut engine) {
            return;
        }
        // A panic: the engine's state cannot be trusted. Load the model again, once.
        self.health.send_replace(EngineHealth::Reloading);
        drop(engine);
        if let Ok(mut engine) = self.load() {
            self.health.send_replace(EngineHealth::Serving);
            if self.work(&mut engine) {
                return;
            }
        }
        tracing::error!("the engine failed twice; giving up");
    }

    fn load(&self) -> Result<Engine<B>, EngineError> {
        let readers = self.readers.clone();
        let load = || Engine::load_warm(&self.options, self.info.clone(), readers, &self.device);
        catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| {
            let reason = panic_message(&*panic).unwrap_or("no reason was given");
            Err(EngineError::Device {
                message: format!(
                    "{:?} could not be opened, or the model did not fit on it: {reason}",
                    self.device
                ),
            })
        })
    }

    /// Works until the queue is closed (`true`) or a job panics (`false`).
    fn work(&self, engine: &mut Engine<B>) -> bool {
        while let Some(job) = self.queue.pop() {
            if catch_unwind(AssertUnwindSafe(|| run_job(engine, job))).is_err() {
                tracing::error!("the engine panicked; the request failed");
                return false;
            }
        }
        true
    }
}

/// However the thread ends, by a panic of the device while loading too, nobody waits for it.
impl<B: FusionBackend> Drop for Thread<B> {
    fn drop(&mut self) {
        self.queue.close();
        self.health.send_replace(EngineHealth::Dead);
    }
}

fn run_job<B: FusionBackend>(engine: &mut Engine<B>, job: Job) {
    match job {
        Job::Generate {
            request,
            started,
            events,
        } => {
            answer(engine, request, started, &events);
        }
        Job::Logits { request, reply } => {
            let (deadline, submitted) = (request.deadline, request.submitted);
            let stop = || stop_reason(deadline, submitted, reply.is_closed());
            let result = within_memory(engine, |engine| {
                let sequence = prefill(engine, request, &stop)?;
                Ok(engine.end(sequence))
            });
            let _ = reply.send(result);
        }
        Job::Trace { request, reply } => {
            let stop = || stop_if(reply.is_closed());
            let result = within_memory(engine, |engine| engine.trace(request, &stop));
            let _ = reply.send(result);
        }
        Job::Deviation {
            plan,
            sources,
            reply,
        } => {
            let stop = || stop_if(reply.is_closed());
            let result = within_memory(engine, |engine| engine.deviation(&plan, sources, &stop));
            let _ = reply.send(result);
        }
        Job::ChunkKv {
            prefix,
            neighbours,
            chunk_ids,
            reply,
        } => {
            if !reply.is_closed() {
                let _ = reply.send(within_memory(engine, |engine| {
                    engine.chunk_kv_among(&prefix, &neighbours, &chunk_ids)
                }));
            }
        }
        #[cfg(feature = "testing")]
        Job::Panic { message, reply } => {
            let _ = reply.send(within_memory(engine, |_| panic!("{message}")));
        }
    }
}

/// Fuses, reports, decodes. Errors before the first token go to `started`, later ones to `events`.
fn answer<B: FusionBackend>(
    engine: &mut Engine<B>,
    request: Queued,
    started: oneshot::Sender<Result<FuseReport, EngineError>>,
    events: &mpsc::Sender<Result<TokenEvent, EngineError>>,
) {
    let (deadline, submitted) = (request.deadline, request.submitted);
    let sampling = request.sampling.clone();
    let prompt_ids = request.plan.segments().token_ids();
    let stop = || stop_reason(deadline, submitted, started.is_closed());
    let prefilled = within_memory(engine, |engine| prefill(engine, request, &stop));
    let mut sequence = match prefilled {
        Ok(sequence) => sequence,
        Err(error) => {
            let _ = started.send(Err(error)); // nobody is left to tell
            return;
        }
    };
    if started.send(Ok(sequence.report.clone())).is_err() {
        engine.end(sequence);
        return;
    }
    let stop = || stop_reason(deadline, submitted, events.is_closed());
    let mut emit = |event| send(events, Ok(event));
    let done = within_memory(engine, |engine| {
        generate(
            engine,
            &mut sequence,
            &prompt_ids,
            &sampling,
            &stop,
            &mut emit,
        )
    });
    let out_of_memory = matches!(done, Err(EngineError::DeviceMemory));
    if let Err(error) = done {
        let _ = send(events, Err(error));
    }
    if !out_of_memory {
        engine.end(sequence); // else its buffers may never have been written
    }
}

fn prefill<B: FusionBackend>(
    engine: &mut Engine<B>,
    request: Queued,
    stop: &dyn Fn() -> Option<EngineError>,
) -> Result<Sequence<B>, EngineError> {
    if let Some(error) = stop() {
        return Err(error);
    }
    let queue = request.submitted.elapsed();
    let wanted = request.plan.n_tokens() + request.sampling.max_tokens;
    let capacity = wanted.min(engine.info().max_model_len);
    let mut sequence = engine.fuse(request.plan, request.loader, capacity, stop)?;
    sequence.report.timings.queue = queue;
    Ok(sequence)
}

fn stop_if(caller_gone: bool) -> Option<EngineError> {
    caller_gone.then_some(EngineError::Cancelled)
}

fn stop_reason(
    deadline: Option<Instant>,
    submitted: Instant,
    caller_gone: bool,
) -> Option<EngineError> {
    if caller_gone {
        return Some(EngineError::Cancelled);
    }
    let expired = deadline.is_some_and(|deadline| Instant::now() >= deadline);
    expired.then(|| EngineError::DeadlineExceeded {
        waited: submitted.elapsed(),
    })
}

/// Hands an event over; the channel has room for all of an answer's events.
fn send(
    events: &mpsc::Sender<Result<TokenEvent, EngineError>>,
    event: Result<TokenEvent, EngineError>,
) -> Result<(), Closed> {
    events.try_send(event).map_err(|_| Closed)
}
