//! One round as the run directory keeps it: every mode once on one prompt.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::stages::stages;
use crate::bench::measure::{Sample, recomputed_share};
use crate::metric::ms;
use crate::mode_spec::ModeSpec;

/// Every mode once. A round is written whole, so that a run resumes between rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Round {
    pub(super) context_tokens: usize,
    /// From 1.
    round: usize,
    pub(super) runs: Vec<Run>,
}

/// One mode in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) spec: String,
    pub(super) ttft_ms: f64,
    tokens_loaded: usize,
    tokens_recomputed: usize,
    /// Of all context tokens; `None` where nothing was loaded.
    #[serde(default)]
    pub(super) recomputed_share: Option<f64>,
    #[serde(default)]
    pub(super) tokens_prefilled: usize,
    /// Prefix tokens that were not computed, because their KV was on the device.
    #[serde(default)]
    pub(super) prefix_tokens_cached: usize,
    bytes_loaded: u64,
    /// Bytes that the process held at most.
    #[serde(default)]
    pub(super) peak_memory: Option<u64>,
    pub(super) stages: Map<String, Value>,
}

impl Round {
    /// `samples`: one per spec.
    pub(super) fn new(
        context_tokens: usize,
        round: usize,
        specs: &[ModeSpec],
        samples: &[Sample],
    ) -> Self {
        let run = |(spec, sample): (&ModeSpec, &Sample)| Run {
            spec: spec.to_string(),
            ttft_ms: ms(sample.ttft),
            tokens_loaded: sample.report.tokens_loaded,
            tokens_recomputed: sample.report.tokens_recomputed,
            recomputed_share: recomputed_share(&sample.report),
            tokens_prefilled: sample.report.tokens_prefilled,
            prefix_tokens_cached: sample.report.prefix_tokens_cached,
            bytes_loaded: sample.report.bytes_loaded,
            peak_memory: sample.peak_memory,
            stages: stages(&sample.report.timings),
        };
        Self {
            context_tokens,
            round,
            runs: specs.iter().zip(samples).map(run).collect(),
        }
    }
}

/// The rounds of a resumed run.
///
/// # Errors
/// Names the directory whose items are not rounds.
pub(super) fn read(run_dir: &Path, items: Vec<Value>) -> anyhow::Result<Vec<Round>> {
    let rounds = items.into_iter().map(serde_json::from_value);
    rounds.collect::<Result<_, _>>().with_context(|| {
        format!(
            "--out {}: an item of run.jsonl is no round; choose another --out, or delete it",
            run_dir.display()
        )
    })
}

#[cfg(test)]
impl Round {
    /// A round of modes that spent everything on recomputing.
    pub(super) fn of_times(context_tokens: usize, times: &[(&str, f64)]) -> Self {
        let run = |&(spec, ttft_ms): &(&str, f64)| Run {
            spec: spec.to_owned(),
            ttft_ms,
            tokens_loaded: 0,
            tokens_recomputed: 0,
            recomputed_share: (spec != "full").then_some(0.125),
            tokens_prefilled: context_tokens,
            prefix_tokens_cached: 0,
            bytes_loaded: 0,
            peak_memory: Some(3 << 20),
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
    use serde_json::json;

    use super::*;

    #[test]
    fn a_round_is_read_as_it_was_written() {
        let round = Round::of_times(512, &[("full", 10.0), ("reuse", 2.5)]);
        let value = serde_json::to_value(&round).unwrap();
        let read = read("runs/a".as_ref(), vec![value]).unwrap();
        assert_eq!(read, [round]);
    }

    #[test]
    fn a_foreign_item_names_the_directory() {
        let error = read("runs/a".as_ref(), vec![json!({"rate": 1})]).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains("runs/a") && error.contains("context_tokens"),
            "{error}"
        );
    }
}
