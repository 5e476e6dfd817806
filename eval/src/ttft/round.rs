//! One round as the run directory keeps it: every mode once on one prompt.

use std::time::Duration;

use ragweave_engine::FuseTimings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::workload::Sample;
use crate::metric::{median, ms};
use crate::mode_spec::ModeSpec;

/// Every mode once. A round is written whole, so that a run resumes between rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Round {
    pub(super) context_tokens: usize,
    round: usize,
    pub(super) runs: Vec<Run>,
}

/// One mode in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) spec: String,
    pub(super) ttft_ms: f64,
    #[serde(flatten)]
    pub(super) work: Work,
    #[serde(default)]
    pub(super) peak_memory: Option<u64>,
    /// Of the tokens after the first, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) decode_tokens_per_s: Option<f64>,
    pub(super) stages: Map<String, Value>,
}

/// What a mode loads and computes: the same in each of its runs on one prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Work {
    pub(crate) tokens_loaded: usize,
    pub(crate) tokens_recomputed: usize,
    /// Of all context tokens, the share that was computed again; `None` if none was loaded. The exact first chunk is
    /// loaded and never computed again: at a ratio of 0.15 and six chunks of one length this is 0.125.
    pub(crate) recomputed_share: Option<f64>,
    pub(crate) tokens_prefilled: usize,
    /// Prefix tokens that were not computed, because their KV was on the device.
    pub(crate) prefix_tokens_cached: usize,
    pub(crate) bytes_loaded: u64,
}

impl Round {
    /// `samples`: one per spec.
    pub(super) fn new(
        context_tokens: usize,
        round: usize,
        specs: &[ModeSpec],
        samples: &[Sample],
    ) -> Self {
        let runs = specs.iter().zip(samples);
        Self {
            context_tokens,
            round,
            runs: runs.map(|(spec, sample)| Run::new(spec, sample)).collect(),
        }
    }
}

impl Run {
    fn new(spec: &ModeSpec, sample: &Sample) -> Self {
        let report = &sample.report;
        let (loaded, recomputed) = (report.tokens_loaded, report.tokens_recomputed);
        Self {
            spec: spec.to_string(),
            ttft_ms: ms(sample.ttft),
            work: Work {
                tokens_loaded: loaded,
                tokens_recomputed: recomputed,
                recomputed_share: (loaded > 0).then(|| recomputed as f64 / loaded as f64),
                tokens_prefilled: report.tokens_prefilled,
                prefix_tokens_cached: report.prefix_tokens_cached,
                bytes_loaded: report.bytes_loaded,
            },
            peak_memory: sample.peak_memory,
            decode_tokens_per_s: sample.decode_tokens_per_s,
            stages: stages(&report.timings),
        }
    }
}

/// Milliseconds of each stage under its name in results. The engine alone is measured, so nothing
/// is embedded or searched for; both stages are named so that all kinds of runs have the same ones.
fn stages(times: &FuseTimings) -> Map<String, Value> {
    let stages = [
        ("queue_ms", times.queue),
        ("embed_ms", Duration::ZERO),
        ("search_ms", Duration::ZERO),
        ("load_ms", times.load),
        ("load_wait_ms", times.load_wait),
        ("probe_ms", times.probe),
        ("recompute_ms", times.recompute),
        ("first_decode_ms", times.first_decode),
    ];
    let named = stages.map(|(name, time)| (name.to_owned(), ms(time).into()));
    named.into_iter().collect()
}

/// The median of each stage over several runs, in the order of the first.
pub(super) fn medians(runs: &[&Map<String, Value>]) -> Map<String, Value> {
    let names = runs.first().into_iter().flat_map(|stages| stages.keys());
    let of = |name: &String| {
        let times = runs.iter().filter_map(|stages| stages.get(name)?.as_f64());
        (name.clone(), median(&times.collect::<Vec<_>>()).into())
    };
    names.map(of).collect()
}

#[cfg(test)]
impl Round {
    /// A round of modes that spent everything on recomputing.
    pub(super) fn of_times(context_tokens: usize, times: &[(&str, f64)]) -> Self {
        let run = |&(spec, ttft_ms): &(&str, f64)| Run {
            spec: spec.to_owned(),
            ttft_ms,
            work: Work {
                recomputed_share: (spec != "full").then_some(0.125),
                tokens_prefilled: context_tokens,
                ..Work::default()
            },
            peak_memory: Some(3 << 20),
            decode_tokens_per_s: None,
            stages: [("recompute_ms".to_owned(), ttft_ms.into())]
                .into_iter()
                .collect(),
        };
        Self {
            context_tokens,
            round: 1,
            runs: times.iter().map(run).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_read_as_it_was_written() {
        let round = Round::of_times(512, &[("full", 10.0), ("reuse", 2.5)]);
        let value = serde_json::to_value(&round).unwrap();
        assert_eq!(serde_json::from_value::<Round>(value).unwrap(), round);
    }

    #[test]
    fn each_stage_has_its_own_median() {
        let run = |recompute_ms, wait_ms| {
            stages(&FuseTimings {
                recompute: Duration::from_millis(recompute_ms),
                load_wait: Duration::from_millis(wait_ms),
                ..FuseTimings::default()
            })
        };
        let runs = [run(10, 3), run(30, 1), run(20, 2)];
        let medians = medians(&runs.iter().collect::<Vec<_>>());
        assert_eq!(medians["recompute_ms"], 20.0);
        assert_eq!(medians["load_wait_ms"], 2.0);
        assert_eq!(medians["embed_ms"], 0.0);
        assert!(medians.keys().eq(runs[0].keys()));
    }

    #[test]
    fn no_runs_have_no_stages() {
        assert!(medians(&[]).is_empty());
    }
}
