//! The controller of `--mode auto`: predicts the TTFT of every plan that may answer a request, and chooses the best.
//! That may be plain full prefill (design invariant 12).
//!
//! ```text
//! job        a plan's work, as amounts of computing and reading
//! filter     seconds for a unit of each, learned from the times of runs
//! rates      forecasts from both; what a machine is known by
//! choose     the candidates of a request, and the best
//! sample     measures reading where a request has read nothing
//! calibrate  the first rates; file: the last ones
//! ```
//! It learns from every request, whatever its mode. A wrong forecast costs time and never the answer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use ragweave_engine::{EngineError, FuseReport, FusionPlan, ModelInfo, Tier};

mod calibrate;
mod choose;
mod file;
mod filter;
mod job;
mod rates;
mod sample;
#[cfg(test)]
mod simulation;

pub use choose::Choice;
pub use file::{CONTROLLER_FILE, Machine};
pub use rates::Forecast;
pub use sample::UnreadSource;

use crate::components::Components;
use crate::fingerprint::fingerprint;
pub use crate::mode_choice::{Auto, ModeChoice};
use choose::Forecaster;
use job::{Job, Worker};
use rates::Rates;

/// Runs learned between two writes of the file.
const RUNS_PER_WRITE: u64 = 64;

/// Learns from runs and chooses plans. Shared by all requests to one engine.
pub struct Controller {
    model: Arc<ModelInfo>,
    max_prefill_tokens: usize,
    rates: Mutex<Rates>,
    /// Requests that the engine holds and has not answered yet.
    running: Arc<AtomicUsize>,
    file: Option<RatesFile>,
}

/// Where the rates are kept.
struct RatesFile {
    data: PathBuf,
    machine: Machine,
    /// One writer at a time.
    writing: Mutex<()>,
}

/// A request's place in the engine; given back when dropped.
pub struct Place {
    running: Arc<AtomicUsize>,
    queue: Duration,
}

impl Place {
    /// How long the engine was predicted to be busy with the requests before this one.
    pub fn queue(&self) -> Duration {
        self.queue
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Controller {
    /// A controller that has learned nothing and keeps no file. `max_prefill_tokens` are the rows the engine computes at
    /// once.
    pub fn new(model: Arc<ModelInfo>, max_prefill_tokens: usize) -> Self {
        Self {
            model,
            max_prefill_tokens,
            rates: Mutex::new(Rates::new()),
            running: Arc::default(),
            file: None,
        }
    }

    /// A controller that starts with what the last one for this data directory learned on the same machine with the
    /// same model.
    pub fn open(components: &Components) -> Self {
        let (config, engine) = (&components.config, &components.engine);
        let identity = &engine.model().identity;
        let machine = Machine {
            device: config.device.to_string(),
            model_fingerprint: fingerprint(engine),
            dtype: identity.compute_dtype.to_string(),
            kv_dtype: identity.kv_dtype.to_string(),
            threads: available_parallelism().map_or(1, usize::from),
        };
        let saved = file::read(&config.data, &machine);
        let rates = saved.as_ref().and_then(Rates::restore);
        Self {
            rates: Mutex::new(rates.unwrap_or_else(Rates::new)),
            file: Some(RatesFile {
                data: config.data.clone(),
                machine,
                writing: Mutex::default(),
            }),
            ..Self::new(Arc::clone(engine.model()), config.limits.max_prefill_tokens)
        }
    }

    /// The best plan for a prompt, planned in [`ModeChoice::widest`]; `tiers` say where each chunk's KV is stored.
    ///
    /// # Errors
    /// A mode that the model cannot run.
    pub fn choose(
        &self,
        plan: &FusionPlan,
        tiers: &[Option<Tier>],
        auto: &Auto,
    ) -> Result<Choice, EngineError> {
        let rates = self.rates();
        self.forecaster(&rates, tiers).choose(plan, auto)
    }

    /// Full prefill, if it is so much faster than any use of stored KV could be that even the lookup would be a waste.
    /// In `plan` every chunk is a hit; `tiers` say where each would come from.
    ///
    /// # Errors
    /// A mode that the model cannot run.
    pub fn full_if_clear(
        &self,
        plan: &FusionPlan,
        tiers: &[Option<Tier>],
        auto: &Auto,
    ) -> Result<Option<Choice>, EngineError> {
        let rates = self.rates();
        if rates.n_learned() == 0 {
            return Ok(None);
        }
        self.forecaster(&rates, tiers).full_if_clear(plan, auto)
    }

    /// The predicted time of a plan.
    pub fn forecast(&self, plan: &FusionPlan, tiers: &[Option<Tier>]) -> Forecast {
        self.rates()
            .forecast(&Job::new(plan, tiers, self.worker(), true))
    }

    /// The predicted time that a request submitted now waits for the engine.
    pub fn queue(&self) -> Duration {
        let seconds = self
            .rates()
            .queue_seconds(self.running.load(Ordering::Relaxed));
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    /// Takes a place in the engine, until the answer has ended.
    pub fn enter(&self) -> Place {
        let queue = self.queue();
        self.running.fetch_add(1, Ordering::Relaxed);
        Place {
            running: Arc::clone(&self.running),
            queue,
        }
    }

    /// Learns from a run. A run that was replanned while it loaded KV ran a different plan in the end.
    pub fn learn(&self, plan: &FusionPlan, tiers: &[Option<Tier>], report: &FuseReport) {
        if report.replans > 0 {
            return;
        }
        let prefix_cached = report.prefix_tokens_cached > 0;
        let job = Job::new(plan, tiers, self.worker(), prefix_cached);
        self.rates().learn(&job, &report.timings);
    }

    /// Learns how long it took to look up and open the stored KV of this many chunks.
    pub fn opened(&self, n_chunks: usize, time: Duration) {
        self.rates().learn_open(time.as_secs_f64(), n_chunks);
    }

    /// Learns how fast stored KV is read, from a source that a request has left unread. Blocks.
    pub fn sample(&self, unread: UnreadSource) {
        match unread.read(&self.model) {
            Ok(Some(sampled)) => self.rates().learn_sample(&sampled),
            Ok(None) => {}
            // A bad block is in quarantine by now, and was logged.
            Err(error) => tracing::debug!(%error, "stored KV could not be sampled"),
        }
    }

    /// Learns how long a request occupied the engine, from its first layer to its last token.
    pub fn occupied(&self, time: Duration) {
        self.rates().occupied(time.as_secs_f64());
    }

    /// Mean of |log(actual / predicted)| over the last runs.
    pub fn error(&self) -> Option<f64> {
        self.rates().error()
    }

    /// Whether the file should be written now. Called once after each run.
    pub fn is_write_due(&self) -> bool {
        self.file.is_some() && self.rates().n_learned().is_multiple_of(RUNS_PER_WRITE)
    }

    /// Writes the file, if anything was learned. Blocks. A failure is logged: the rates can be measured again.
    pub fn write(&self) {
        let Some(file) = &self.file else { return };
        let _writing = file.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = {
            let rates = self.rates();
            (rates.n_learned() > 0).then(|| rates.save())
        };
        let Some(saved) = saved else { return };
        if let Err(error) = file::write(&file.data, &file.machine, saved) {
            tracing::warn!(%error, "learned rates cannot be written");
        }
    }

    fn worker(&self) -> Worker<'_> {
        Worker {
            model: &self.model,
            max_prefill_tokens: self.max_prefill_tokens,
        }
    }

    fn forecaster<'a>(&'a self, rates: &'a Rates, tiers: &'a [Option<Tier>]) -> Forecaster<'a> {
        Forecaster {
            rates,
            worker: self.worker(),
            tiers,
        }
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
