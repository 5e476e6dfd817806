//! Learns the rates of a machine from measured times: a Kalman filter over the logarithms of the time that a unit of
//! each kind of work takes. Pure.
//!
//! The time of a run is `sum_i exp(x_i) a_i`, with the run's amounts `a`, times `exp` of the corrections that apply to
//! it. Logarithms keep every rate positive, and an error of 10 % counts the same in a short run as in a long one. Each
//! new time moves every state by the part of the error that its uncertainty explains: an exponentially weighted mean
//! whose weight is large when little is known and small when much is. A machine that slows down slows down in
//! everything, so most of a drift is shared by all rates: what is learned from one plan also applies to the plans that
//! do not run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The belief about a rate before anything was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prior {
    pub(super) name: &'static str,
    /// Seconds for one unit.
    pub(super) seconds: f64,
    /// Standard deviation of its logarithm, in addition to what it shares with other rates.
    pub(super) sd: f64,
    /// How much it depends on the overall speed of the machine: 1 for throughputs, which differ a thousandfold between
    /// devices and mostly together; less for latencies, which do not.
    pub(super) shared: f64,
}

impl Prior {
    fn variance(&self) -> f64 {
        (SHARED_SD * self.shared).powi(2) + self.sd.powi(2)
    }
}

/// Statistics of the times of one kind of work: standard deviations of logarithms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Volatility {
    /// By how much rates may change from one measured time to the next: all together, and each alone.
    pub(super) shared_drift: f64,
    pub(super) own_drift: f64,
    /// Spread of the times of equal runs.
    pub(super) noise: f64,
}

/// How far all throughputs together may be off at first.
const SHARED_SD: f64 = 3.0;
/// By how much rates read from a file may have changed in the meantime.
const RESTART_DRIFT: f64 = 0.1;
/// How far a plan's time may be from what the rates predict, and its drift.
const CORRECTION_SD: f64 = 0.08;
const CORRECTION_DRIFT: f64 = 0.003;
/// Largest correction, as a logarithm.
const MAX_CORRECTION: f64 = 0.7;
/// Number of corrections kept; the least recently used one is removed first.
const MAX_CORRECTIONS: usize = 64;
/// In addition to the noise: jitter that even short runs have.
const JITTER_SECONDS: f64 = 2e-4;
/// An error beyond this many standard deviations is clipped to that size, since it may be an outlier. It may also be a
/// lasting change, so the next error counts more: rates are assumed to have drifted by this part of the error.
const OUTLIER: f64 = 3.0;
const SUSPICION: f64 = 0.25;

/// A correction of the plans under one key.
#[derive(Debug, Clone)]
struct Correction {
    state: usize,
    last_used: u64,
    /// Times it was learned from.
    n_seen: u32,
}

/// The filter's state: one per rate, then one per correction.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    priors: Vec<Prior>,
    volatility: Volatility,
    mean: Vec<f64>,
    covariance: Vec<Vec<f64>>,
    corrections: BTreeMap<String, Correction>,
    clock: u64,
}

/// A predicted time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) seconds: f64,
    /// 1 for a plan that was never seen, falling towards 0 the more often it was seen: the remaining share of the
    /// spread of its corrections, as if they had been measured alone.
    pub(super) unsure: f64,
}

/// The filter as it is stored in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedFilter {
    rates: Vec<SavedState>,
    corrections: Vec<SavedCorrection>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SavedState {
    name: String,
    /// For a rate: seconds for one unit; for a correction: a factor.
    value: f64,
    /// Standard deviation of its logarithm.
    sd: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SavedCorrection {
    #[serde(flatten)]
    state: SavedState,
    n_seen: u32,
}

impl Filter {
    pub(super) fn new(priors: &[Prior], volatility: Volatility) -> Self {
        let n = priors.len();
        let shared = |i: usize, j: usize| SHARED_SD.powi(2) * priors[i].shared * priors[j].shared;
        let own = |i: usize, j: usize| if i == j { priors[i].sd.powi(2) } else { 0.0 };
        Self {
            mean: priors.iter().map(|prior| prior.seconds.ln()).collect(),
            covariance: (0..n)
                .map(|i| (0..n).map(|j| shared(i, j) + own(i, j)).collect())
                .collect(),
            priors: priors.to_vec(),
            volatility,
            corrections: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Seconds for one unit of each kind of work.
    pub(super) fn rates(&self) -> Vec<f64> {
        let rates = self.mean.iter().take(self.priors.len());
        rates.map(|log| log.exp()).collect()
    }

    /// The factor that the corrections under `keys` apply to a time; 1 for a key not seen before.
    pub(super) fn correction(&self, keys: &[String]) -> f64 {
        let known = keys.iter().filter_map(|key| self.corrections.get(key));
        known.map(|known| self.mean[known.state]).sum::<f64>().exp()
    }

    pub(super) fn estimate(&self, amounts: &[f64], keys: &[String]) -> Estimate {
        let rates = self.rates();
        let seconds: f64 = rates
            .iter()
            .zip(amounts)
            .map(|(rate, amount)| rate * amount)
            .sum();
        let of_key = |key: &String| {
            let n_seen = self.corrections.get(key).map_or(0, |known| known.n_seen);
            let measured = f64::from(n_seen) * (CORRECTION_SD / self.volatility.noise).powi(2);
            1.0 / (1.0 + measured)
        };
        Estimate {
            seconds: seconds * self.correction(keys),
            unsure: (keys.iter().map(of_key).sum::<f64>() / keys.len().max(1) as f64).sqrt(),
        }
    }

    /// Learns from the time of one run. Returns the logarithm of actual over predicted; `None` for a time that is not a
    /// positive number.
    pub(super) fn learn(&mut self, amounts: &[f64], keys: &[String], seconds: f64) -> Option<f64> {
        let foreseen = self.estimate(amounts, keys).seconds;
        if !(seconds.is_finite() && seconds > 0.0 && foreseen.is_finite() && foreseen > 0.0) {
            return None;
        }
        self.drift();
        let states = self.states_of(keys);
        let slope = self.slope(amounts, &states);
        let error = (seconds / foreseen).ln();
        self.update(&slope, error, self.volatility.variance(seconds));
        Some(error)
    }

    /// One Kalman step: `slope` is the derivative of the logarithm of the time.
    fn update(&mut self, slope: &[f64], error: f64, noise: f64) {
        let gain: Vec<f64> = self.covariance.iter().map(|row| dot(row, slope)).collect();
        let variance = dot(&gain, slope) + noise;
        let limit = OUTLIER * variance.sqrt();
        let counted = error.clamp(-limit, limit);
        for (state, gain) in self.mean.iter_mut().zip(&gain) {
            *state += gain / variance * counted;
        }
        for (row, &of_row) in self.covariance.iter_mut().zip(&gain) {
            for (entry, &of_column) in row.iter_mut().zip(&gain) {
                *entry -= of_row * of_column / variance;
            }
        }
        let n_rates = self.priors.len();
        for correction in self.mean.iter_mut().skip(n_rates) {
            *correction = correction.clamp(-MAX_CORRECTION, MAX_CORRECTION);
        }
        if error.abs() > limit {
            let doubt = SUSPICION * error.abs().min(1.0) / self.volatility.drift();
            self.doubt(
                doubt * self.volatility.shared_drift,
                doubt * self.volatility.own_drift,
            );
        }
    }

    /// The share of each state in the time of a run.
    fn slope(&self, amounts: &[f64], corrections: &[usize]) -> Vec<f64> {
        let rates = self.rates();
        let parts: Vec<f64> = rates
            .iter()
            .zip(amounts)
            .map(|(rate, amount)| rate * amount)
            .collect();
        let total: f64 = parts.iter().sum();
        let mut slope = vec![0.0; self.mean.len()];
        for (entry, part) in slope.iter_mut().zip(parts) {
            *entry = part / total;
        }
        for &state in corrections {
            slope[state] = 1.0;
        }
        slope
    }

    /// Time has passed, so everything may have changed a little; no uncertainty grows beyond the initial one.
    fn drift(&mut self) {
        self.clock += 1;
        self.doubt(self.volatility.shared_drift, self.volatility.own_drift);
        for state in self.priors.len()..self.mean.len() {
            if self.covariance[state][state] < CORRECTION_SD.powi(2) {
                self.covariance[state][state] += CORRECTION_DRIFT.powi(2);
            }
        }
    }

    /// Rates may have changed, all together and each alone, by these standard deviations.
    fn doubt(&mut self, shared: f64, own: f64) {
        let n_rates = self.priors.len();
        let is_known = |i: usize| self.covariance[i][i] < self.priors[i].variance();
        let known: Vec<bool> = (0..n_rates).map(is_known).collect();
        // As long as one rate is as uncertain as at first, the rates are not correlated enough to drift together.
        let shared = if known.iter().all(|&known| known) {
            shared
        } else {
            0.0
        };
        for (i, row) in self.covariance.iter_mut().take(n_rates).enumerate() {
            row.iter_mut()
                .take(n_rates)
                .for_each(|entry| *entry += shared * shared);
            if known[i] {
                row[i] += own * own;
            }
        }
    }

    /// The states of corrections. All of them are created or marked as used before any is looked up, because making
    /// room for one moves others.
    fn states_of(&mut self, keys: &[String]) -> Vec<usize> {
        for key in keys {
            self.use_correction(key);
        }
        let known = keys.iter().filter_map(|key| self.corrections.get(key));
        known.map(|known| known.state).collect()
    }

    /// Counts a use of a correction, which is created if it does not exist.
    fn use_correction(&mut self, key: &str) {
        let clock = self.clock;
        if let Some(known) = self.corrections.get_mut(key) {
            known.last_used = clock;
            known.n_seen = known.n_seen.saturating_add(1);
            return;
        }
        if self.corrections.len() >= MAX_CORRECTIONS {
            self.forget_oldest();
        }
        self.add_correction(key, 0.0, CORRECTION_SD, 1);
    }

    fn add_correction(&mut self, key: &str, log: f64, sd: f64, n_seen: u32) {
        let state = self.mean.len();
        self.mean.push(log);
        self.covariance.iter_mut().for_each(|row| row.push(0.0));
        let mut row = vec![0.0; state];
        row.push(sd * sd);
        self.covariance.push(row);
        let last_used = self.clock;
        self.corrections.insert(
            key.to_owned(),
            Correction {
                state,
                last_used,
                n_seen,
            },
        );
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .corrections
            .iter()
            .min_by_key(|(_, known)| known.last_used);
        let Some((key, state)) = oldest.map(|(key, known)| (key.clone(), known.state)) else {
            return;
        };
        self.corrections.remove(&key);
        self.mean.remove(state);
        self.covariance.remove(state);
        self.covariance.iter_mut().for_each(|row| {
            row.remove(state);
        });
        for known in self
            .corrections
            .values_mut()
            .filter(|known| known.state > state)
        {
            known.state -= 1;
        }
    }

    /// What is stored in a file: values and their spread. Their correlations are learned again.
    pub(super) fn save(&self) -> SavedFilter {
        let saved = |name: &str, state: usize| SavedState {
            name: name.to_owned(),
            value: self.mean[state].exp(),
            sd: self.covariance[state][state].max(0.0).sqrt(),
        };
        let rates = self.priors.iter().enumerate();
        let correction = |(key, known): (&String, &Correction)| SavedCorrection {
            state: saved(key, known.state),
            n_seen: known.n_seen,
        };
        SavedFilter {
            rates: rates
                .map(|(state, prior)| saved(prior.name, state))
                .collect(),
            corrections: self.corrections.iter().map(correction).collect(),
        }
    }

    /// The filter from a file; `None` if the file has other rates, or a number that is not finite.
    pub(super) fn restore(
        priors: &[Prior],
        volatility: Volatility,
        saved: &SavedFilter,
    ) -> Option<Self> {
        let names = saved.rates.iter().map(|rate| rate.name.as_str());
        let is_same = names.eq(priors.iter().map(|prior| prior.name));
        let corrections = saved.corrections.iter().map(|correction| &correction.state);
        let mut states = saved.rates.iter().chain(corrections);
        let is_sound = |state: &SavedState| {
            state.value.is_finite() && state.value > 0.0 && state.sd.is_finite() && state.sd >= 0.0
        };
        if !is_same || !states.all(is_sound) || saved.corrections.len() > MAX_CORRECTIONS {
            return None;
        }
        let mut filter = Self::new(priors, volatility);
        filter.mean = saved.rates.iter().map(|rate| rate.value.ln()).collect();
        for (i, row) in filter.covariance.iter_mut().enumerate() {
            row.iter_mut()
                .for_each(|entry| *entry = RESTART_DRIFT * RESTART_DRIFT);
            row[i] += saved.rates[i].sd.powi(2);
        }
        for SavedCorrection { state, n_seen } in &saved.corrections {
            let log = state.value.ln().clamp(-MAX_CORRECTION, MAX_CORRECTION);
            filter.add_correction(&state.name, log, state.sd.min(CORRECTION_SD), *n_seen);
        }
        Some(filter)
    }
}

impl Volatility {
    /// Variance of the logarithm of a time.
    fn variance(&self, seconds: f64) -> f64 {
        self.noise * self.noise + (JITTER_SECONDS / seconds).powi(2)
    }

    fn drift(&self) -> f64 {
        self.shared_drift.hypot(self.own_drift)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests;
