//! The summary of a decay run: a row per mode and batch, and whether anything changed over time.

use std::fmt;

use serde::Serialize;

use super::batch::{Batch, ModeBatch};
use super::corpus::StoreBytes;
use crate::metric::{median, percentile};
use crate::mode_spec::ModeSpec;
use crate::run_dir::ModeLabel;
use crate::table::{Table, number, percent};

/// A hit rate counts as flat up to this relative change.
const HIT_RATE_TOLERANCE: f64 = 0.01;
/// A median TTFT counts as flat up to this relative change: medians of 100 short times on a busy
/// machine differ by some percent.
const TTFT_TOLERANCE: f64 = 0.1;

/// Rows mode by mode, each in the order of its batches.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    rows: Vec<Row>,
    /// Per mode; of modes with a single batch there is nothing to tell.
    flatness: Vec<Flatness>,
    store: Growth,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    #[serde(flatten)]
    label: ModeLabel,
    batch: usize,
    queries: usize,
    /// Chunks hit over chunks looked up; `None` where the mode looks none up.
    hit_rate: Option<f64>,
    ttft_ms_p50: Option<f64>,
    ttft_ms_p95: Option<f64>,
}

/// The last batch of a mode beside its first.
#[derive(Debug, PartialEq, Serialize)]
struct Flatness {
    #[serde(flatten)]
    label: ModeLabel,
    hit_rate: Option<[f64; 2]>,
    /// Last over first.
    hit_rate_ratio: Option<f64>,
    ttft_ms_p50: [f64; 2],
    /// Last over first.
    ttft_ratio: f64,
    is_flat: bool,
}

/// The store around the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Growth {
    before: StoreBytes,
    after: StoreBytes,
}

impl Report {
    /// `store`: before and after.
    pub(super) fn new(modes: &[ModeSpec], batches: &[Batch], store: [StoreBytes; 2]) -> Self {
        let [before, after] = store;
        let by_mode: Vec<Vec<Row>> = modes
            .iter()
            .enumerate()
            .map(|(mode, spec)| rows(spec, mode, batches))
            .collect();
        Self {
            flatness: by_mode.iter().filter_map(|rows| flatness(rows)).collect(),
            rows: by_mode.into_iter().flatten().collect(),
            store: Growth { before, after },
        }
    }
}

/// Rows of the mode of this index.
fn rows(spec: &ModeSpec, mode: usize, batches: &[Batch]) -> Vec<Row> {
    let row = |batch: &Batch| Some(Row::new(spec, batch.batch, batch.modes.get(mode)?));
    batches.iter().filter_map(row).collect()
}

/// `None` without a first and another, last row that have times.
fn flatness(rows: &[Row]) -> Option<Flatness> {
    let [first, .., last] = rows else { return None };
    let hit_rate = first.hit_rate.zip(last.hit_rate);
    let hit_rate_ratio = hit_rate.map(|(first, last)| ratio(first, last));
    let (first_ms, last_ms) = (first.ttft_ms_p50?, last.ttft_ms_p50?);
    let ttft_ratio = ratio(first_ms, last_ms);
    let is_near_one = |ratio: f64, tolerance| (ratio - 1.0).abs() <= tolerance;
    Some(Flatness {
        label: first.label.clone(),
        hit_rate: hit_rate.map(Into::into),
        hit_rate_ratio,
        ttft_ms_p50: [first_ms, last_ms],
        ttft_ratio,
        is_flat: hit_rate_ratio.is_none_or(|ratio| is_near_one(ratio, HIT_RATE_TOLERANCE))
            && is_near_one(ttft_ratio, TTFT_TOLERANCE),
    })
}

/// Last over first; 1 where both are 0.
#[expect(clippy::float_cmp, reason = "only equal numbers have ratio 1 at 0")]
fn ratio(first: f64, last: f64) -> f64 {
    if first == last { 1.0 } else { last / first }
}

impl Row {
    fn new(spec: &ModeSpec, number: usize, batch: &ModeBatch) -> Self {
        Self {
            label: ModeLabel::of(spec),
            batch: number,
            queries: batch.ttft_ms.len(),
            hit_rate: batch.hit_rate(),
            ttft_ms_p50: median(&batch.ttft_ms),
            ttft_ms_p95: percentile(&batch.ttft_ms, 95.0),
        }
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = self.label.cells().to_vec();
        cells.extend([
            self.batch.to_string(),
            self.queries.to_string(),
            percent(self.hit_rate),
            number(self.ttft_ms_p50, 2),
            number(self.ttft_ms_p95, 2),
        ]);
        cells
    }
}

const HEADER: [&str; 5] = ["batch", "queries", "hit rate", "TTFT ms p50", "p95"];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = [&ModeLabel::HEADER[..], &HEADER].concat();
        let mut table = Table::new(&header);
        self.rows.iter().for_each(|row| table.push(row.cells()));
        writeln!(f, "{table}\n")?;
        if self.flatness.is_empty() {
            writeln!(f, "a single batch: nothing to compare; lower --batch")?;
        }
        for flatness in &self.flatness {
            writeln!(f, "{flatness}")?;
        }
        write!(f, "{}", self.store)
    }
}

impl fmt::Display for Flatness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [policy, ratio] = self.label.cells();
        let verdict = if self.is_flat { "flat" } else { "not flat" };
        write!(
            f,
            "{policy} {ratio}: {verdict} from the first batch to the last:"
        )?;
        if let Some([first, last]) = self.hit_rate {
            let (first, last) = (percent(Some(first)), percent(Some(last)));
            let ratio = number(self.hit_rate_ratio, 3);
            write!(f, " hit rate {first}, then {last} (ratio {ratio});")?;
        }
        let [first, last] = self.ttft_ms_p50;
        let ratio = self.ttft_ratio;
        write!(
            f,
            " TTFT p50 {first:.2} ms, then {last:.2} ms (ratio {ratio:.2})"
        )
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after } = self;
        write!(
            f,
            "store: {} bytes before, {} after; KV of {} chunks, then of {}",
            before.total_bytes, after.total_bytes, before.blobs, after.blobs
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreBytes = StoreBytes {
        total_bytes: 4096,
        live_bytes: 2048,
        blobs: 7,
    };

    fn batch(batch: usize, hits: [usize; 2], times: &[f64]) -> Batch {
        let [chunks_hit, chunks_missed] = hits;
        let mode = ModeBatch {
            spec: "reuse".to_owned(),
            chunks_hit,
            chunks_missed,
            ttft_ms: times.to_vec(),
        };
        Batch {
            batch,
            modes: vec![mode],
        }
    }

    fn report(batches: &[Batch]) -> Report {
        Report::new(&["reuse".parse().unwrap()], batches, [STORE, STORE])
    }

    #[test]
    fn the_last_batch_stands_beside_the_first() {
        let batches = [
            batch(0, [100, 0], &[1.0, 2.0, 3.0]),
            batch(1, [0, 100], &[9.0]),
            batch(2, [200, 0], &[2.1]),
        ];
        let report = report(&batches);
        assert_eq!(report.rows.len(), 3);
        let row = &report.rows[0];
        assert_eq!((row.queries, row.hit_rate), (3, Some(1.0)));
        assert_eq!((row.ttft_ms_p50, row.ttft_ms_p95), (Some(2.0), Some(2.9)));
        let flatness = &report.flatness[0];
        assert_eq!(flatness.hit_rate_ratio, Some(1.0));
        assert_eq!(flatness.ttft_ratio, 1.05);
        assert!(flatness.is_flat);
        let text = report.to_string();
        assert!(
            text.contains("flat from the first") && text.contains("2.00 ms, then 2.10 ms"),
            "{text}"
        );
        assert!(text.ends_with("store: 4096 bytes before, 4096 after; KV of 7 chunks, then of 7"));
    }

    #[test]
    fn a_change_of_either_is_not_flat() {
        let is_flat = |last: Batch| report(&[batch(0, [100, 0], &[2.0]), last]).flatness[0].is_flat;
        assert!(is_flat(batch(1, [100, 0], &[1.9])));
        assert!(!is_flat(batch(1, [100, 0], &[2.5])));
        assert!(!is_flat(batch(1, [100, 0], &[1.5])));
        assert!(!is_flat(batch(1, [98, 2], &[2.0])));
    }

    #[test]
    fn full_prefill_is_judged_by_its_time_alone() {
        let batches = [batch(0, [0, 0], &[2.0]), batch(1, [0, 0], &[2.0])];
        let report = report(&batches);
        assert_eq!(report.rows[0].hit_rate, None);
        assert!(report.flatness[0].is_flat);
        assert!(!report.to_string().contains("hit rate -"));
    }

    #[test]
    fn one_batch_has_nothing_to_compare() {
        let report = report(&[batch(0, [6, 0], &[1.0])]);
        assert!(report.flatness.is_empty());
        assert!(report.to_string().contains("a single batch"));
    }
}
