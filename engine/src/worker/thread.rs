//! The thread that owns the model: takes jobs one at a time, and loads the model again after a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};

use super::job::{Job, Queued};
use super::memory::{panic_message, within_memory};
use super::queue::JobQueue;
use crate::engine::{Engine, Sequence};
use crate::error::EngineError;
use crate::fusion::{FuseReport, Readers};
use crate::generate::{Closed, TokenEvent, generate};
use crate::kernel::FusionBackend;
use crate::model_info::ModelInfo;
use crate::options::EngineOptions;

/// The state of the engine thread and its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineHealth {
    Serving,
    /// A panic was caught; the model is being loaded again.
    Reloading,
    /// A second panic, or the reload failed. The process should exit non-zero.
    Dead,
}

/// The engine thread's own state.
pub(super) struct Thread<B: FusionBackend> {
    pub options: EngineOptions,
    pub device: B::Device,
    pub info: Arc<ModelInfo>,
    pub queue: Arc<JobQueue>,
    pub readers: Arc<Readers>,
    pub health: watch::Sender<EngineHealth>,
}

impl<B: FusionBackend> Thread<B> {
    pub(super) fn run(self, loaded: SyncSender<Result<(), EngineError>>) {
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
        // After a panic the engine's state cannot be trusted. Load the model again, once.
        self.health.send_replace(EngineHealth::Reloading);
        drop(engine);
        match self.load() {
            Ok(mut engine) => {
                self.health.send_replace(EngineHealth::Serving);
                if self.work(&mut engine) {
                    return;
                }
                tracing::error!("the engine failed twice; giving up");
            }
            Err(error) => tracing::error!(%error, "the model could not be loaded again; giving up"),
        }
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

/// However the thread ends, even by a panic while loading, callers must not wait for it.
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
            let _ = started.send(Err(error)); // an error means that the caller is gone
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
        engine.end(sequence); // otherwise its buffers may never have been written
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

/// Sends an event without blocking; the channel has room for all of an answer's events.
fn send(
    events: &mpsc::Sender<Result<TokenEvent, EngineError>>,
    event: Result<TokenEvent, EngineError>,
) -> Result<(), Closed> {
    events.try_send(event).map_err(|_| Closed)
}
