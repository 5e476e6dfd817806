//! From the times of tokens to the figures of a load test. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schedule::n_dropped;
use crate::metric::{mean, ms, percentile};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Trace {
    /// Scheduled arrival, in milliseconds after the start.
    pub(super) at_ms: f64,
    /// `None` if the queue was full.
    pub(super) answer: Option<AnswerTimes>,
}

/// Times of one answer in milliseconds, counted from the scheduled arrival: a request that could
/// not be sent in time has waited all the same (no coordinated omission).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct AnswerTimes {
    pub(super) ttft_ms: f64,
    pub(super) e2e_ms: f64,
    /// Tokens generated, an end-of-sequence token included.
    pub(super) n_out: usize,
    /// Gaps between the tokens received.
    pub(super) itl_ms: Vec<f64>,
    /// Chunks whose KV the mode wanted and the store did not have.
    pub(super) chunks_missed: usize,
}

impl AnswerTimes {
    /// From the times, after the start, of the arrival, of each token and of the end. An answer
    /// without a token has its first at its end.
    pub(super) fn new(
        at: Duration,
        tokens: &[Duration],
        end: Duration,
        n_out: usize,
        chunks_missed: usize,
    ) -> Self {
        let since = |time: Duration| ms(time.saturating_sub(at));
        let gaps = tokens.windows(2).map(|pair| ms(pair[1] - pair[0]));
        Self {
            ttft_ms: since(tokens.first().copied().unwrap_or(end)),
            e2e_ms: since(end),
            n_out,
            itl_ms: gaps.collect(),
            chunks_missed,
        }
    }

    /// Time per output token after the first; `None` if there is only one.
    pub(super) fn tpot_ms(&self) -> Option<f64> {
        let later = self.n_out.checked_sub(1).filter(|&later| later > 0)?;
        Some((self.e2e_ms - self.ttft_ms) / later as f64)
    }
}

/// Mean and percentiles of one time; all `None` of nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) mean: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p95: Option<f64>,
    pub(crate) p99: Option<f64>,
}

impl Spread {
    fn of(samples: impl Iterator<Item = f64>) -> Self {
        let samples: Vec<f64> = samples.collect();
        Self {
            mean: mean(&samples),
            p50: percentile(&samples, 50.0),
            p95: percentile(&samples, 95.0),
            p99: percentile(&samples, 99.0),
        }
    }
}

/// The figures of one mode at one rate, over all but the first requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    #[serde(default)]
    pub(crate) n: usize,
    #[serde(default)]
    pub(crate) completed: usize,
    #[serde(default)]
    pub(crate) rejected: usize,
    #[serde(default)]
    pub(crate) ttft_ms: Spread,
    #[serde(default)]
    pub(crate) tpot_ms: Spread,
    #[serde(default)]
    pub(crate) itl_ms: Spread,
    #[serde(default)]
    pub(crate) e2e_ms: Spread,
    /// Answers per second whose first token came within the limit; `None` without a limit.
    pub(crate) goodput: Option<f64>,
    /// Answers per second, from the first counted arrival to the last answer's end.
    pub(crate) achieved_rate: Option<f64>,
}

impl Figures {
    /// `traces`: all requests in order of arrival.
    pub(super) fn of(traces: &[Trace], slo_ttft_ms: Option<f64>) -> Self {
        let counted = &traces[n_dropped(traces.len())..];
        let answers = counted.iter().filter_map(|trace| trace.answer.as_ref());
        let answers: Vec<&AnswerTimes> = answers.collect();
        let per_s = |n: usize| Some(n as f64 / span_s(counted)?);
        let n_good = |limit| answers.iter().filter(|of| of.ttft_ms <= limit).count();
        Self {
            n: counted.len(),
            completed: answers.len(),
            rejected: counted.len() - answers.len(),
            ttft_ms: Spread::of(answers.iter().map(|answer| answer.ttft_ms)),
            tpot_ms: Spread::of(answers.iter().filter_map(|answer| answer.tpot_ms())),
            itl_ms: Spread::of(answers.iter().flat_map(|answer| answer.itl_ms.clone())),
            e2e_ms: Spread::of(answers.iter().map(|answer| answer.e2e_ms)),
            goodput: slo_ttft_ms.and_then(|limit| per_s(n_good(limit))),
            achieved_rate: per_s(answers.len()),
        }
    }
}

/// Seconds from the first arrival to the end of the last answer; `None` without an answer.
fn span_s(counted: &[Trace]) -> Option<f64> {
    let end = |trace: &Trace| Some(trace.at_ms + trace.answer.as_ref()?.e2e_ms);
    let last = counted.iter().filter_map(end).max_by(f64::total_cmp)?;
    Some((last - counted.first()?.at_ms) / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis<const N: usize>(times: [u64; N]) -> [Duration; N] {
        times.map(Duration::from_millis)
    }

    /// One token, 100 ms after the arrival unless given.
    fn trace(at_ms: f64, ttft_ms: f64, e2e_ms: f64) -> Trace {
        let answer = AnswerTimes {
            ttft_ms,
            e2e_ms,
            n_out: 3,
            itl_ms: vec![(e2e_ms - ttft_ms) / 2.0; 2],
            chunks_missed: 0,
        };
        Trace {
            at_ms,
            answer: Some(answer),
        }
    }

    #[test]
    fn times_count_from_the_scheduled_arrival() {
        let [at, end] = millis([100, 180]);
        let times = AnswerTimes::new(at, &millis([150, 160, 175]), end, 4, 1);
        assert_eq!((times.ttft_ms, times.e2e_ms), (50.0, 80.0));
        assert_eq!(times.itl_ms, [10.0, 15.0]);
        // (80 - 50) / (4 - 1): the fourth token ended the sequence and was not sent.
        assert_eq!(times.tpot_ms(), Some(10.0));
    }

    #[test]
    fn an_answer_of_one_or_no_token_has_no_time_per_token() {
        let [at, end] = millis([100, 130]);
        let one = AnswerTimes::new(at, &millis([120]), end, 1, 0);
        assert_eq!((one.ttft_ms, one.tpot_ms()), (20.0, None));
        let none = AnswerTimes::new(at, &[], end, 0, 0);
        assert_eq!((none.ttft_ms, none.tpot_ms()), (30.0, None));
        assert!(none.itl_ms.is_empty());
    }

    #[test]
    fn the_first_sixth_counts_nowhere() {
        let mut traces = vec![trace(0.0, 9000.0, 9500.0)];
        let arrivals = [1000.0, 2000.0, 3000.0, 4000.0];
        traces.extend(arrivals.map(|at_ms| trace(at_ms, 100.0, 120.0)));
        traces.push(Trace {
            at_ms: 5000.0,
            answer: None,
        });
        let figures = Figures::of(&traces, Some(100.0));
        assert_eq!((figures.n, figures.completed, figures.rejected), (5, 4, 1));
        assert_eq!(figures.ttft_ms.mean, Some(100.0));
        assert_eq!(figures.ttft_ms.p99, Some(100.0));
        assert_eq!(figures.tpot_ms.p50, Some(10.0));
        assert_eq!(figures.itl_ms.p50, Some(10.0));
        assert_eq!(figures.e2e_ms.p95, Some(120.0));
        // 4 answers from second 1 to 4.12.
        assert_eq!(figures.achieved_rate, Some(4.0 / 3.12));
        assert_eq!(figures.goodput, figures.achieved_rate);
    }

    #[test]
    fn goodput_counts_what_came_in_time() {
        let traces = [trace(0.0, 10.0, 20.0), trace(1000.0, 30.0, 1000.0)];
        let goodput = |limit| Figures::of(&traces, limit).goodput;
        assert_eq!(goodput(Some(10.0)), Some(0.5));
        assert_eq!(goodput(Some(30.0)), Some(1.0));
        assert_eq!(goodput(Some(5.0)), Some(0.0));
        assert_eq!(goodput(None), None);
    }

    #[test]
    fn percentiles_are_of_the_samples() {
        let spread = Spread::of((1..=101).map(f64::from));
        assert_eq!((spread.mean, spread.p50), (Some(51.0), Some(51.0)));
        assert_eq!((spread.p95, spread.p99), (Some(96.0), Some(100.0)));
    }

    #[test]
    fn a_load_that_was_all_rejected_has_counts_and_no_times() {
        let rejected = Trace {
            at_ms: 1.0,
            answer: None,
        };
        let figures = Figures::of(&[rejected.clone(), rejected], Some(1.0));
        assert_eq!((figures.n, figures.rejected), (2, 2));
        assert_eq!(figures.ttft_ms.mean, None);
        assert_eq!((figures.goodput, figures.achieved_rate), (None, None));
    }
}
