//! The summary of a load test: a row per mode and rate.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cell::Cell;
use super::latency::Figures;
use crate::experiment::{self, Column};
use crate::mode_spec::{ModeLabel, ModeSpec};
use crate::table::number;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) label: ModeLabel,
    /// Requests per second offered.
    pub(crate) rate: f64,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

impl Report {
    pub(super) fn new(
        modes: &[ModeSpec],
        rates: &[f64],
        cells: &[Cell],
        slo_ttft_ms: Option<f64>,
    ) -> Self {
        let row = |spec: &ModeSpec, rate: f64| {
            let cell = cells.iter().find(|cell| cell.is_of(spec, rate))?;
            Some(Row {
                label: spec.label(),
                rate,
                figures: Figures::of(&cell.requests, slo_ttft_ms),
            })
        };
        let rows = modes
            .iter()
            .flat_map(|spec| rates.iter().filter_map(move |&rate| row(spec, rate)));
        Self {
            rows: rows.collect(),
        }
    }
}

const COLUMNS: [Column<Row>; 13] = [
    ("mode", |row| row.label.policy.clone()),
    ("ratio", |row| number(row.label.ratio, 2)),
    ("rate", |row| number(Some(row.rate), 2)),
    ("n", |row| row.figures.n.to_string()),
    ("rejected", |row| row.figures.rejected.to_string()),
    ("TTFT ms p50", |row| number(row.figures.ttft_ms.p50, 1)),
    ("p95", |row| number(row.figures.ttft_ms.p95, 1)),
    ("p99", |row| number(row.figures.ttft_ms.p99, 1)),
    ("TPOT ms p50", |row| number(row.figures.tpot_ms.p50, 2)),
    ("ITL ms p95", |row| number(row.figures.itl_ms.p95, 2)),
    ("e2e ms p95", |row| number(row.figures.e2e_ms.p95, 1)),
    ("goodput", |row| number(row.figures.goodput, 2)),
    ("achieved", |row| number(row.figures.achieved_rate, 2)),
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", experiment::table(&self.rows, &COLUMNS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::latency::Trace;

    #[test]
    fn rows_go_mode_by_mode_and_have_every_column() {
        let modes = ["full", "first-k:0.1"].map(|spec| spec.parse().unwrap());
        let rejected = || {
            vec![Trace {
                at_ms: 1.0,
                answer: None,
            }]
        };
        let cell = |mode: usize, rate| Cell::new(&modes[mode], rate, rejected());
        let cells = [cell(1, 2.0), cell(0, 2.0), cell(0, 1.0)];
        let report = Report::new(&modes, &[1.0, 2.0], &cells, None);
        let seen: Vec<_> = report
            .rows
            .iter()
            .map(|row| (&*row.label.policy, row.rate))
            .collect();
        assert_eq!(seen, [("full", 1.0), ("full", 2.0), ("first-k", 2.0)]);
        let text = report.to_string();
        assert!(text.lines().count() == 4 && text.contains("TPOT"), "{text}");
        let row = serde_json::to_value(&report.rows[2]).unwrap();
        assert_eq!(row["policy"], "first-k");
        assert_eq!((&row["ratio"], &row["rejected"]), (&0.1.into(), &1.into()));
        assert!(row["ttft_ms"]["p99"].is_null() && row["goodput"].is_null());
    }
}
