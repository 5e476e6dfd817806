//! What every experiment does around its own measurements: it runs asynchronous work, lets modes take
//! turns, shows progress, and prints its report.

use std::fmt;
use std::io::Write as _;
use std::thread::available_parallelism;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::table::Table;

pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().build()?.block_on(work)
}

/// The order in which `n` modes run in one round. Each round begins with a different mode, so
/// that neither a slow moment of the machine nor caches warmed by the previous mode favour one of them.
pub(crate) fn rotated(n: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..n).map(move |place| (place + round) % n)
}

/// Logical processors this process may use.
pub(crate) fn threads() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// A progress bar over `total` steps, each one `what`, on standard error; hidden if that is not a terminal.
pub(crate) fn bar(total: usize, what: &str) -> ProgressBar {
    // The template is constant, so its syntax cannot fail at run time.
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}, ETA {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total as u64)
        .with_style(style)
        .with_message(what.to_owned())
}

/// Warns of missed chunks. They are computed in full under every mode, so their rows and times do not show the mode.
pub(crate) fn warn_of_misses(missed: usize) {
    if missed > 0 {
        tracing::warn!(
            missed,
            "chunks without stored KV were computed in full; ingest the corpus with KV, then measure again"
        );
    }
}

/// A column of a table: its header, and its cell of a row.
pub(crate) type Column<R> = (&'static str, fn(&R) -> String);

pub(crate) fn table<R>(rows: &[R], columns: &[Column<R>]) -> Table {
    let header: Vec<&str> = columns.iter().map(|(header, _)| *header).collect();
    let mut table = Table::new(&header);
    for row in rows {
        table.push(columns.iter().map(|(_, cell)| cell(row)).collect());
    }
    table
}

/// Prints a report as indented JSON, or as text.
pub(crate) fn print(
    report: &impl Serialize,
    text: impl fmt::Display,
    json: bool,
) -> anyhow::Result<()> {
    match json {
        true => print_text(serde_json::to_string_pretty(report)?),
        false => print_text(text),
    }
}

/// Prints text and a line end. A closed pipe is an error here, not a panic.
pub(crate) fn print_text(text: impl fmt::Display) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::rotated;

    #[test]
    fn every_round_runs_every_mode_once_and_begins_with_the_next() {
        assert_eq!(rotated(3, 0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(rotated(3, 1).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(rotated(3, 5).collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!(rotated(0, 1).count(), 0);
    }
}
