//! The table of all cells, as Markdown and as JSON.

use std::fmt;

use serde::Serialize;

use super::regret::Outcome;
use crate::experiment::Column;

#[derive(Debug, Serialize)]
pub(super) struct Setting {
    pub(super) model: String,
    pub(super) device: String,
    pub(super) threads: usize,
    pub(super) dtype: String,
    pub(super) kv_dtype: String,
    pub(super) policy: String,
    pub(super) question_tokens: usize,
    pub(super) prefix_tokens: usize,
    pub(super) warm_up: usize,
    pub(super) rounds: usize,
    pub(super) seed: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    setting: Setting,
    /// Cells that do not pass: auto was slower than it may be, blended where full prefill wins, or is not shown to be fast
    /// enough.
    n_failed: usize,
    /// Those of them that more rounds could clear.
    n_undecided: usize,
    /// Of all cells, the largest mean, and the largest upper end of an interval.
    worst_regret: f64,
    worst_upper_end: f64,
    /// Mean of |log(actual / predicted)| over the cells' medians of auto.
    prediction_error: f64,
    cells: Vec<Outcome>,
}

impl Report {
    pub(super) fn new(setting: Setting, cells: Vec<Outcome>) -> Self {
        let errors = cells
            .iter()
            .map(|cell| (cell.auto_ms / cell.predicted_ms).ln().abs());
        let regrets = cells.iter().map(|cell| cell.regret);
        let upper_ends = cells.iter().map(|cell| cell.regret_ci.1);
        let faults = || cells.iter().filter_map(Outcome::fault);
        Self {
            setting,
            n_failed: faults().count(),
            n_undecided: faults().filter(|fault| !fault.is_certain()).count(),
            worst_regret: regrets.fold(f64::NEG_INFINITY, f64::max),
            worst_upper_end: upper_ends.fold(f64::NEG_INFINITY, f64::max),
            prediction_error: errors.sum::<f64>() / cells.len().max(1) as f64,
            cells,
        }
    }

    /// The cells that do not pass, and what is wrong with each.
    pub(super) fn failed(&self) -> Vec<String> {
        let fault = |outcome: &Outcome| Some(format!("{}: {}", outcome.cell, outcome.fault()?));
        self.cells.iter().filter_map(fault).collect()
    }
}

const COLUMNS: [Column<Outcome>; 11] = [
    ("chunks", |of| of.cell.length()),
    ("ratio", |of| of.cell.ratio.to_string()),
    ("KV", |of| of.cell.tier.name().to_owned()),
    ("full ms", |of| format!("{:.1}", of.full_ms)),
    ("blend ms", |of| format!("{:.1}", of.blend_ms)),
    ("auto ms", |of| format!("{:.1}", of.auto_ms)),
    ("predicted ms", |of| format!("{:.1}", of.predicted_ms)),
    ("auto chose", chosen),
    ("regret %", |of| format!("{:.1}", of.regret * 100.0)),
    ("95 %", |of| {
        format!(
            "{:.1} .. {:.1}",
            of.regret_ci.0 * 100.0,
            of.regret_ci.1 * 100.0
        )
    }),
    ("", |of| {
        of.fault()
            .map(|fault| fault.to_string())
            .unwrap_or_default()
    }),
];

fn chosen(outcome: &Outcome) -> String {
    let is_one = outcome.chosen.len() == 1;
    let name = |(name, n): (&String, &usize)| match is_one {
        true => format!("`{name}`"),
        false => format!("`{name}` {n}x"),
    };
    outcome
        .chosen
        .iter()
        .map(name)
        .collect::<Vec<_>>()
        .join(", ")
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` in {}, KV in {}, {} with {} threads; blend `{}`; question of {} tokens, prefix of {}. {} rounds a cell \
             after {} to warm up; in each, full, blend and auto take turns. Times to first token are medians. Regret is \
             the mean of auto / better - 1, with its 95 % interval (bootstrap over rounds); better is full or blend, by \
             median. A cell passes if the upper end is at most 3 %. The prefix's KV is on the device for all three. Auto \
             knows a calibration and its own runs.",
            self.model,
            self.dtype,
            self.kv_dtype,
            self.device,
            self.threads,
            self.policy,
            self.question_tokens,
            self.prefix_tokens,
            self.rounds,
            self.warm_up,
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.setting)?;
        writeln!(f, "| {} |", COLUMNS.map(|(header, _)| header).join(" | "))?;
        writeln!(f, "|---|--:|---|--:|--:|--:|--:|---|--:|--:|---|")?;
        for outcome in &self.cells {
            writeln!(
                f,
                "| {} |",
                COLUMNS.map(|(_, cell)| cell(outcome)).join(" | ")
            )?;
        }
        write!(
            f,
            "\n{} cells: {} pass, {} at fault, {} undecided; worst regret {:.1} % in the mean, {:.1} % at the upper end; \
             predictions off by {:.1} % in the mean.",
            self.cells.len(),
            self.cells.len() - self.n_failed,
            self.n_failed - self.n_undecided,
            self.n_undecided,
            self.worst_regret * 100.0,
            self.worst_upper_end * 100.0,
            self.prediction_error * 100.0,
        )
    }
}
