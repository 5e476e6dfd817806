//! The summary of a decay run: a row per mode and batch, and whether anything changed over time.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::batch::{Batch, StoreBytes};
use super::flatness::{Flatness, Row, of_modes};
use crate::experiment::{self, Column};
use crate::mode_spec::ModeSpec;
use crate::table::{number, percent};

/// Rows mode by mode, each in the order of its batches.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    /// Per mode; nothing for modes with a single batch.
    #[serde(default)]
    pub(crate) flatness: Vec<Flatness>,
    #[serde(default)]
    store: Growth,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Growth {
    before: StoreBytes,
    after: StoreBytes,
}

impl Report {
    /// `store`: before and after.
    pub(super) fn new(modes: &[ModeSpec], batches: &[Batch], store: [StoreBytes; 2]) -> Self {
        let [before, after] = store;
        let modes = modes.iter().enumerate();
        let by_mode = modes.map(|(mode, spec)| rows(spec, mode, batches));
        let by_mode: Vec<Vec<Row>> = by_mode.collect();
        Self {
            flatness: of_modes(&by_mode),
            rows: by_mode.into_iter().flatten().collect(),
            store: Growth { before, after },
        }
    }
}

fn rows(spec: &ModeSpec, mode: usize, batches: &[Batch]) -> Vec<Row> {
    let row = |batch: &Batch| Some(Row::new(spec, batch.batch, batch.modes.get(mode)?));
    batches.iter().filter_map(row).collect()
}

const COLUMNS: [Column<Row>; 7] = [
    ("mode", |row| row.label.policy.clone()),
    ("ratio", |row| number(row.label.ratio, 2)),
    ("batch", |row| row.batch.to_string()),
    ("queries", |row| row.queries.to_string()),
    ("hit rate", |row| percent(row.hit_rate)),
    ("TTFT ms p50", |row| number(row.ttft_ms_p50, 2)),
    ("p95", |row| number(row.ttft_ms_p95, 2)),
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", experiment::table(&self.rows, &COLUMNS))?;
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
    use crate::decay::batch::ModeBatch;

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
