//! What the controller has learned about one machine and model: how long computing and reading take, how long requests
//! occupy the engine, and how good the forecasts were. Pure.

use ragweave_engine::FuseTimings;
use serde::{Deserialize, Serialize};

use super::filter::{Filter, SavedFilter};
use super::job::{COMPUTE, COMPUTING, Job, READ, READING, Reads, reads_of};
use super::sample::Sampled;

/// Weight of the newest value in the means over requests.
const NEWEST: f64 = 0.1;
/// The same for the time to open a chunk, which changes suddenly when the index leaves the page cache.
const NEWEST_OPENING: f64 = 0.3;

/// The predicted time of one plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// From the engine taking the request to its first token.
    pub seconds: f64,
    /// The part of it spent waiting for stored KV.
    pub wait_seconds: f64,
    /// 1 for a plan that was never seen, falling towards 0 the more often it was seen.
    pub unsure: f64,
}

#[derive(Debug, Clone)]
pub(super) struct Rates {
    compute: Filter,
    read: Filter,
    /// Number of times learned from.
    n_learned: u64,
    /// Means over requests: seconds a request occupies the engine, and |log(actual / predicted)|.
    service_s: Option<f64>,
    error: Option<f64>,
    /// Mean of the seconds to look up and open one chunk's stored KV.
    open_s: Option<f64>,
}

/// [`Rates`] as they are stored in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedRates {
    n_learned: u64,
    service_s: Option<f64>,
    mean_log_error: Option<f64>,
    #[serde(default)]
    open_s: Option<f64>,
    compute: SavedFilter,
    read: SavedFilter,
}

impl Rates {
    pub(super) fn new() -> Self {
        Self {
            compute: Filter::new(&COMPUTE, COMPUTING),
            read: Filter::new(&READ, READING),
            n_learned: 0,
            service_s: None,
            error: None,
            open_s: None,
        }
    }

    pub(super) fn forecast(&self, job: &Job) -> Forecast {
        let compute = self.compute.estimate(&job.compute(), &job.keys);
        let correction = self.compute.correction(&job.keys);
        let wait_seconds = job.wait(&self.compute.rates(), correction, &self.read.rates());
        Forecast {
            seconds: compute.seconds + wait_seconds,
            wait_seconds,
            unsure: compute.unsure,
        }
    }

    /// Learns from a run. Its time in the queue depends on other requests and is left out.
    pub(super) fn learn(&mut self, job: &Job, timings: &FuseTimings) {
        let foreseen = self.forecast(job).seconds;
        let compute = timings.probe + timings.recompute + timings.first_decode;
        let actual = (compute + timings.load_wait).as_secs_f64();
        self.compute
            .learn(&job.compute(), &job.keys, compute.as_secs_f64());
        self.learn_read(&job.reads(), timings.load.as_secs_f64());
        if actual > 0.0 && foreseen > 0.0 {
            let error = (actual / foreseen).ln().abs();
            // The first forecasts are based on guesses and say nothing about later ones.
            if self.n_learned > 0 {
                self.error = Some(mean(self.error, error, NEWEST));
            }
            self.n_learned += 1;
        }
    }

    /// Learns how long it took to look up and open this many chunks.
    pub(super) fn learn_open(&mut self, seconds: f64, n_chunks: usize) {
        if n_chunks > 0 && seconds.is_finite() {
            let newest = seconds / n_chunks as f64;
            self.open_s = Some(mean(self.open_s, newest, NEWEST_OPENING));
        }
    }

    /// Seconds that looking up and opening this many chunks takes; 0 while nothing is known.
    pub(super) fn open_seconds(&self, n_chunks: usize) -> f64 {
        self.open_s.unwrap_or(0.0) * n_chunks as f64
    }

    /// Learns from a separate read, and from the opening before it if that was timed.
    pub(super) fn learn_sample(&mut self, sampled: &Sampled) {
        let Sampled {
            tier,
            n_reads,
            bytes,
            time,
            opened,
        } = *sampled;
        if let Some((n_chunks, time)) = opened {
            self.learn_open(time.as_secs_f64(), n_chunks);
        }
        self.learn_read(
            &reads_of(Some(tier), n_reads, bytes as f64),
            time.as_secs_f64(),
        );
    }

    fn learn_read(&mut self, reads: &Reads, seconds: f64) {
        self.read.learn(reads, &[], seconds);
    }

    /// Learns how long a request occupied the engine, for prefill and answer.
    pub(super) fn occupied(&mut self, seconds: f64) {
        self.service_s = Some(mean(self.service_s, seconds, NEWEST));
    }

    /// How long a request waits for `ahead` other requests, one of which has begun.
    pub(super) fn queue_seconds(&self, ahead: usize) -> f64 {
        let begun = if ahead > 0 { 0.5 } else { 0.0 };
        self.service_s.unwrap_or(0.0) * (ahead as f64 - begun)
    }

    pub(super) fn n_learned(&self) -> u64 {
        self.n_learned
    }

    /// Mean of |log(actual / predicted)| over the last requests.
    pub(super) fn error(&self) -> Option<f64> {
        self.error
    }

    pub(super) fn save(&self) -> SavedRates {
        SavedRates {
            n_learned: self.n_learned,
            service_s: self.service_s,
            mean_log_error: self.error,
            open_s: self.open_s,
            compute: self.compute.save(),
            read: self.read.save(),
        }
    }

    /// `None` if the file's rates are from another version or not finite.
    pub(super) fn restore(saved: &SavedRates) -> Option<Self> {
        let is_sound = |value: &Option<f64>| value.is_none_or(|v| v.is_finite() && v >= 0.0);
        if ![saved.service_s, saved.mean_log_error, saved.open_s]
            .iter()
            .all(is_sound)
        {
            return None;
        }
        Some(Self {
            compute: Filter::restore(&COMPUTE, COMPUTING, &saved.compute)?,
            read: Filter::restore(&READ, READING, &saved.read)?,
            n_learned: saved.n_learned,
            service_s: saved.service_s,
            error: saved.mean_log_error,
            open_s: saved.open_s,
        })
    }
}

/// The mean updated with `newest` at this weight.
fn mean(known: Option<f64>, newest: f64, weight: f64) -> f64 {
    known.map_or(newest, |known| known + weight * (newest - known))
}
