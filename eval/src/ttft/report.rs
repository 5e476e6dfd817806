//! The summary of a timing: a row per context length and mode.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::round::{Round, Run, Work, medians};
use crate::experiment::{self, Column};
use crate::metric::{median, percentile};
use crate::mode_spec::{ModeLabel, ModeSpec};
use crate::table::{Table, number, percent};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) label: ModeLabel,
    pub(crate) context_tokens: usize,
    #[serde(default)]
    pub(crate) n: usize,
    pub(crate) ttft_ms_p50: Option<f64>,
    pub(crate) ttft_ms_p95: Option<f64>,
    ttft_ms_min: Option<f64>,
    ttft_ms_max: Option<f64>,
    /// Median TTFT of full prefill in the same rounds over this one.
    pub(crate) speedup_vs_full: Option<f64>,
    #[serde(flatten)]
    pub(crate) work: Work,
    /// The most that the process held during a run, the model among it: the median.
    pub(crate) peak_memory_mib: Option<f64>,
    decode_tokens_per_s: Option<f64>,
    /// Medians. Loading overlaps with computing: only `load_wait_ms` adds to the TTFT.
    #[serde(default)]
    pub(crate) stages: Map<String, Value>,
}

impl Report {
    pub(super) fn new(specs: &[ModeSpec], rounds: &[Round]) -> Self {
        let mut lengths: Vec<usize> = rounds.iter().map(|round| round.context_tokens).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let rows = lengths.into_iter().flat_map(|length| {
            let rounds = rounds.iter().filter(|round| round.context_tokens == length);
            let rounds: Vec<&Round> = rounds.collect();
            let row = |spec: &ModeSpec| Row::new(spec, length, &rounds);
            specs.iter().map(row).collect::<Vec<_>>()
        });
        Self {
            rows: rows.collect(),
        }
    }

    /// The rows as `bench` prints them: of one length, with what each mode loads and computes.
    pub(super) fn work_table(&self) -> Table {
        experiment::table(&self.rows, &WORK_COLUMNS)
    }
}

impl Row {
    /// `rounds`: those of this context length.
    fn new(spec: &ModeSpec, context_tokens: usize, rounds: &[&Round]) -> Self {
        let runs = runs(&spec.to_string(), rounds);
        let times = times(&runs);
        let ttft_ms_p50 = median(&times);
        let full_ms = median(&self::times(&self::runs("full", rounds)));
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let median_of = |value: &dyn Fn(&Run) -> Option<f64>| {
            median(&runs.iter().filter_map(|run| value(run)).collect::<Vec<_>>())
        };
        Self {
            label: spec.label(),
            context_tokens,
            n: runs.len(),
            ttft_ms_p50,
            ttft_ms_p95: percentile(&times, 95.0),
            ttft_ms_min: percentile(&times, 0.0),
            ttft_ms_max: percentile(&times, 100.0),
            speedup_vs_full: full_ms.zip(ttft_ms_p50).map(|(full, this)| full / this),
            work: runs
                .first()
                .map_or_else(Work::default, |run| run.work.clone()),
            peak_memory_mib: median_of(&|run| run.peak_memory.map(mib)),
            decode_tokens_per_s: median_of(&|run| run.decode_tokens_per_s),
            stages: medians(&runs.iter().map(|run| &run.stages).collect::<Vec<_>>()),
        }
    }

    fn stage(&self, name: &str, decimals: usize) -> String {
        number(self.stages.get(name).and_then(Value::as_f64), decimals)
    }

    fn speedup(&self) -> String {
        let speedup = self.speedup_vs_full;
        speedup.map_or_else(|| "-".to_owned(), |speedup| format!("{speedup:.2}x"))
    }
}

fn runs<'a>(spec: &str, rounds: &[&'a Round]) -> Vec<&'a Run> {
    let runs = rounds.iter().flat_map(|round| &round.runs);
    runs.filter(|run| run.spec == spec).collect()
}

fn times(runs: &[&Run]) -> Vec<f64> {
    runs.iter().map(|run| run.ttft_ms).collect()
}

const COLUMNS: [Column<Row>; 14] = [
    ("mode", |row| row.label.policy.clone()),
    ("ratio", |row| number(row.label.ratio, 2)),
    ("context", |row| row.context_tokens.to_string()),
    ("recomputed", |row| percent(row.work.recomputed_share)),
    ("n", |row| row.n.to_string()),
    ("TTFT ms p50", |row| number(row.ttft_ms_p50, 2)),
    ("p95", |row| number(row.ttft_ms_p95, 2)),
    ("speedup", Row::speedup),
    ("peak MiB", |row| number(row.peak_memory_mib, 0)),
    ("load ms", |row| row.stage("load_ms", 2)),
    ("wait ms", |row| row.stage("load_wait_ms", 2)),
    ("probe ms", |row| row.stage("probe_ms", 2)),
    ("compute ms", |row| row.stage("recompute_ms", 2)),
    ("logits ms", |row| row.stage("first_decode_ms", 2)),
];

const WORK_COLUMNS: [Column<Row>; 12] = [
    ("mode", |row| row.label.policy.clone()),
    ("ratio", |row| number(row.label.ratio, 2)),
    ("TTFT ms", |row| number(row.ttft_ms_p50, 1)),
    ("speedup", Row::speedup),
    ("loaded", |row| row.work.tokens_loaded.to_string()),
    ("recomputed", |row| row.work.tokens_recomputed.to_string()),
    ("of context", |row| percent(row.work.recomputed_share)),
    ("prefilled", |row| row.work.tokens_prefilled.to_string()),
    ("load ms", |row| row.stage("load_ms", 1)),
    ("wait ms", |row| row.stage("load_wait_ms", 1)),
    ("compute ms", |row| row.stage("recompute_ms", 1)),
    ("decode tok/s", |row| number(row.decode_tokens_per_s, 1)),
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", experiment::table(&self.rows, &COLUMNS))?;
        let cached = self.rows.iter().map(|row| row.work.prefix_tokens_cached);
        match cached.max() {
            Some(cached) if cached > 0 => write!(
                f,
                "\n\nthe KV of the prefix of {cached} tokens comes from the device's cache in every mode, full prefill's too"
            ),
            _ => Ok(()),
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_compared_with_the_full_prefill_of_its_own_length() {
        let specs = ["reuse", "full"].map(|spec| spec.parse().unwrap());
        let rounds = [
            Round::of_times(512, &[("full", 100.0), ("reuse", 10.0)]),
            Round::of_times(1024, &[("full", 400.0), ("reuse", 20.0)]),
            Round::of_times(512, &[("full", 300.0), ("reuse", 30.0)]),
            Round::of_times(512, &[("full", 200.0), ("reuse", 40.0)]),
        ];
        let report = Report::new(&specs, &rounds);
        let seen: Vec<_> = report
            .rows
            .iter()
            .map(|row| {
                (
                    &*row.label.policy,
                    row.context_tokens,
                    row.n,
                    row.speedup_vs_full,
                )
            })
            .collect();
        let expected = [
            ("reuse", 512, 3, Some(200.0 / 30.0)),
            ("full", 512, 3, Some(1.0)),
            ("reuse", 1024, 1, Some(20.0)),
            ("full", 1024, 1, Some(1.0)),
        ];
        assert_eq!(seen, expected);
        let reuse = &report.rows[0];
        assert_eq!(
            (reuse.ttft_ms_p50, reuse.ttft_ms_p95),
            (Some(30.0), Some(39.0))
        );
        assert_eq!(reuse.stages["recompute_ms"], 30.0);
        assert_eq!(reuse.peak_memory_mib, Some(3.0));
    }

    #[test]
    fn every_row_of_the_table_has_every_column() {
        let specs = ["full".parse().unwrap()];
        let text = Report::new(&specs, &[Round::of_times(7, &[("full", 1.25)])]).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("speedup") && lines[0].ends_with("logits ms"));
        assert!(lines[1].contains("1.00x") && lines[1].contains("1.25"));
    }

    #[test]
    fn the_share_of_context_recomputed_stands_beside_the_ratio() {
        let specs = ["hkvd@1:0.15".parse().unwrap()];
        let rounds = [Round::of_times(3072, &[("hkvd@1:0.15", 1.0)])];
        let text = Report::new(&specs, &rounds).to_string();
        assert!(text.contains("0.15") && text.contains("12.5 %"), "{text}");
        assert!(!text.contains("device's cache"), "{text}");
    }
}
