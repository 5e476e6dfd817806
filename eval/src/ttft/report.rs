//! The summary of a `ttft` run: a row per context length and mode.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::round::{Round, Run};
use super::stages::medians;
use crate::metric::{median, percentile};
use crate::mode_spec::ModeSpec;
use crate::run_dir::ModeLabel;
use crate::table::{Table, number, percent};

/// Rows by context length, then in the order of the modes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) label: ModeLabel,
    pub(crate) context_tokens: usize,
    /// Measured rounds.
    #[serde(default)]
    pub(crate) n: usize,
    pub(crate) ttft_ms_p50: Option<f64>,
    pub(crate) ttft_ms_p95: Option<f64>,
    /// Median TTFT of full prefill in the same rounds over this one.
    pub(crate) speedup_vs_full: Option<f64>,
    /// Of all context tokens, those of the exact first chunk too; `None` where nothing was loaded.
    pub(crate) recomputed_share: Option<f64>,
    pub(crate) tokens_prefilled: Option<usize>,
    /// Prefix tokens that were not computed, because their KV was on the device.
    #[serde(default)]
    pub(crate) prefix_tokens_cached: usize,
    /// The most that the process held during a run, the model among it: the median.
    pub(crate) peak_memory_mib: Option<f64>,
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
            specs
                .iter()
                .map(|spec| Row::new(spec, length, &rounds))
                .collect::<Vec<_>>()
        });
        Self {
            rows: rows.collect(),
        }
    }
}

impl Row {
    /// `rounds`: those of this context length.
    fn new(spec: &ModeSpec, context_tokens: usize, rounds: &[&Round]) -> Self {
        let runs = runs(&spec.to_string(), rounds);
        let times = times(&runs);
        let ttft_ms_p50 = median(&times);
        let full_ms = median(&self::times(&self::runs("full", rounds)));
        Self {
            label: ModeLabel::of(spec),
            context_tokens,
            n: runs.len(),
            ttft_ms_p50,
            ttft_ms_p95: percentile(&times, 95.0),
            speedup_vs_full: full_ms.zip(ttft_ms_p50).map(|(full, this)| full / this),
            // Counts are the same in every run of a mode.
            recomputed_share: runs.first().and_then(|run| run.recomputed_share),
            tokens_prefilled: runs.first().map(|run| run.tokens_prefilled),
            prefix_tokens_cached: runs.first().map_or(0, |run| run.prefix_tokens_cached),
            peak_memory_mib: median(&peaks(&runs)),
            stages: medians(&runs.iter().map(|run| &run.stages).collect::<Vec<_>>()),
        }
    }

    fn cells(&self) -> Vec<String> {
        let stage = |name: &str| number(self.stages.get(name).and_then(Value::as_f64), 2);
        let speedup = self.speedup_vs_full;
        let mut cells = self.label.cells().to_vec();
        cells.extend([
            self.context_tokens.to_string(),
            percent(self.recomputed_share),
            self.n.to_string(),
            number(self.ttft_ms_p50, 2),
            number(self.ttft_ms_p95, 2),
            speedup.map_or_else(|| "-".to_owned(), |speedup| format!("{speedup:.2}x")),
            number(self.peak_memory_mib, 0),
        ]);
        cells.extend(STAGES.map(|(_, name)| stage(name)));
        cells
    }
}

fn runs<'a>(spec: &str, rounds: &[&'a Round]) -> Vec<&'a Run> {
    let runs = rounds.iter().flat_map(|round| &round.runs);
    runs.filter(|run| run.spec == spec).collect()
}

fn times(runs: &[&Run]) -> Vec<f64> {
    runs.iter().map(|run| run.ttft_ms).collect()
}

/// In MiB.
fn peaks(runs: &[&Run]) -> Vec<f64> {
    let peaks = runs.iter().filter_map(|run| run.peak_memory);
    peaks
        .map(|bytes| bytes as f64 / f64::from(1 << 20))
        .collect()
}

const HEADER: [&str; 7] = [
    "context",
    "recomputed",
    "n",
    "TTFT ms p50",
    "p95",
    "speedup",
    "peak MiB",
];
/// Stages of the text table: column and name.
const STAGES: [(&str, &str); 5] = [
    ("load ms", "load_ms"),
    ("wait ms", "load_wait_ms"),
    ("probe ms", "probe_ms"),
    ("compute ms", "recompute_ms"),
    ("logits ms", "first_decode_ms"),
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages = STAGES.map(|(column, _)| column);
        let header = [&ModeLabel::HEADER[..], &HEADER, &stages].concat();
        let mut table = Table::new(&header);
        self.rows.iter().for_each(|row| table.push(row.cells()));
        write!(f, "{table}")?;
        match self.rows.iter().map(|row| row.prefix_tokens_cached).max() {
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
