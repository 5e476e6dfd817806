//! The table of all cells, as Markdown and as JSON.

use std::fmt;
use std::thread::available_parallelism;

use ragweave_engine::EngineOptions;
use serde::Serialize;

use super::Args;
use super::regret::Outcome;

/// A whole grid.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    model: String,
    device: String,
    threads: usize,
    dtype: String,
    kv_dtype: String,
    policy: String,
    question_tokens: usize,
    prefix_tokens: usize,
    warm_up: usize,
    rounds: usize,
    seed: u64,
    /// Cells that do not pass: auto was slower than it may be, blended where full prefill wins, or is not shown to be fast
    /// enough.
    n_failed: usize,
    /// Those of them in which more rounds would tell.
    n_undecided: usize,
    /// Of all cells, the largest mean, and the largest upper end of an interval.
    worst_regret: f64,
    worst_upper_end: f64,
    /// Mean of |log(actual / predicted)| over the cells' medians of auto.
    prediction_error: f64,
    cells: Vec<Outcome>,
}

impl Report {
    pub(super) fn new(
        args: &Args,
        model: &str,
        options: &EngineOptions,
        cells: Vec<Outcome>,
    ) -> Self {
        let errors = cells
            .iter()
            .map(|cell| (cell.auto_ms / cell.predicted_ms).ln().abs());
        let regrets = cells.iter().map(|cell| cell.regret);
        let upper_ends = cells.iter().map(|cell| cell.regret_ci.1);
        let faults = || cells.iter().filter_map(Outcome::fault);
        Self {
            model: model.to_owned(),
            device: args.engine.device.to_string(),
            threads: available_parallelism().map_or(1, usize::from),
            dtype: options.dtype.to_string(),
            kv_dtype: options.kv_dtype.to_string(),
            policy: args.selection.to_string(),
            question_tokens: args.question_tokens,
            prefix_tokens: args.prefix_tokens,
            warm_up: args.warm_up,
            rounds: args.rounds,
            seed: args.seed,
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
        let faults = self
            .cells
            .iter()
            .filter_map(|outcome| Some((outcome.cell, outcome.fault()?)));
        faults
            .map(|(cell, fault)| format!("{cell}: {fault}"))
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "`{}` in {}, KV in {}, {} with {} threads; blend `{}`; question of {} tokens, prefix of {}. {} rounds a cell \
             after {} to warm up; in each, full, blend and auto take turns. Times to first token are medians. Regret is \
             the mean of auto / better - 1, with its 95 % interval (bootstrap over rounds); better is full or blend, by \
             median. A cell passes if the upper end is at most 3 %. The prefix's KV is on the device for all three. Auto \
             knows a calibration and its own runs.\n",
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
        )?;
        writeln!(
            f,
            "| chunks | ratio | KV | full ms | blend ms | auto ms | predicted ms | auto chose | regret % | 95 % | |"
        )?;
        writeln!(f, "|---|--:|---|--:|--:|--:|--:|---|--:|--:|---|")?;
        for outcome in &self.cells {
            writeln!(f, "{}", Line(outcome))?;
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

/// A cell's line of the table.
struct Line<'a>(&'a Outcome);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { cell, .. } = self.0;
        let chosen: Vec<String> = match self.0.chosen.len() {
            1 => self
                .0
                .chosen
                .keys()
                .map(|name| format!("`{name}`"))
                .collect(),
            _ => {
                let counted = self.0.chosen.iter();
                counted.map(|(name, n)| format!("`{name}` {n}x")).collect()
            }
        };
        write!(
            f,
            "| {} x {} | {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {:.1} | {:.1} .. {:.1} | {} |",
            cell.chunks,
            cell.chunk_tokens,
            cell.ratio,
            cell.tier.name(),
            self.0.full_ms,
            self.0.blend_ms,
            self.0.auto_ms,
            self.0.predicted_ms,
            chosen.join(", "),
            self.0.regret * 100.0,
            self.0.regret_ci.0 * 100.0,
            self.0.regret_ci.1 * 100.0,
            self.0
                .fault()
                .map(|fault| fault.to_string())
                .unwrap_or_default(),
        )
    }
}
