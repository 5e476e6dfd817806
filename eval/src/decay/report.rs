//! The summary of a decay run: a row per mode and batch, and whether anything changed over time.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::batch::{Batch, ModeBatch};
use super::corpus::StoreBytes;
use super::flatness::{Flatness, of_modes};
use crate::metric::{median, percentile};
use crate::mode_spec::ModeSpec;
use crate::run_dir::ModeLabel;
use crate::table::{Table, number, percent};

/// Rows mode by mode, each in the order of its batches.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    /// Per mode; of modes with a single batch there is nothing to tell.
    #[serde(default)]
    pub(crate) flatness: Vec<Flatness>,
    #[serde(default)]
    store: Growth,
}

/// One mode in one batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) label: ModeLabel,
    pub(crate) batch: usize,
    #[serde(default)]
    pub(crate) queries: usize,
    /// Chunks hit over chunks looked up; `None` where the mode looks none up.
    pub(crate) hit_rate: Option<f64>,
    pub(crate) ttft_ms_p50: Option<f64>,
    pub(crate) ttft_ms_p95: Option<f64>,
}

/// The store around the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
            flatness: of_modes(&by_mode),
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

impl Row {
    pub(super) fn new(spec: &ModeSpec, number: usize, batch: &ModeBatch) -> Self {
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

    fn batch(batch: usize, times: &[f64]) -> Batch {
        let mode = ModeBatch {
            spec: "reuse".to_owned(),
            chunks_hit: 3,
            chunks_missed: 1,
            ttft_ms: times.to_vec(),
        };
        Batch {
            batch,
            modes: vec![mode],
        }
    }

    fn report(batches: &[Batch]) -> Report {
        let grown = StoreBytes { blobs: 9, ..STORE };
        Report::new(&["reuse".parse().unwrap()], batches, [STORE, grown])
    }

    #[test]
    fn a_row_sums_its_batch_up() {
        let report = report(&[batch(0, &[1.0, 2.0, 3.0]), batch(1, &[2.1])]);
        assert_eq!(report.rows.len(), 2);
        let row = &report.rows[0];
        assert_eq!((row.batch, row.queries, row.hit_rate), (0, 3, Some(0.75)));
        assert_eq!((row.ttft_ms_p50, row.ttft_ms_p95), (Some(2.0), Some(2.9)));
        let text = report.to_string();
        assert!(text.contains("2.00 ms, then 2.10 ms"), "{text}");
        assert!(text.ends_with("store: 4096 bytes before, 4096 after; KV of 7 chunks, then of 9"));
    }

    #[test]
    fn one_batch_has_nothing_to_compare() {
        let report = report(&[batch(0, &[1.0])]);
        assert!(report.flatness.is_empty());
        assert!(report.to_string().contains("a single batch"));
    }
}
