//! Hit rate and time to first token while novel queries follow one another.

use super::chart::axis::Axis;
use super::curves::Curves;
use super::document::{Block, Cell, DASH, Figure, Section, Table};
use super::evidence::Evidence;
use super::mode::OfMode;
use super::run::Content;
use crate::decay::flatness::Flatness;
use crate::decay::flatness::Row;

const INTRODUCTION: &str = "Novel queries, one batch after another. Hit rate (share of chunks \
    found in the store, percent, higher is better) and time to first token in ms (lower is \
    better) should stay flat: with a cache that fills with what nobody asks for again, the first would fall \
    and the second rise.";

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let blocks = evidence.of_runs(
        |content| match content {
            Content::Decay(run) => Some(run),
            _ => None,
        },
        |_, run| {
            let tables = [flatness(&run.flatness), table(evidence, &run.rows)];
            let tables = tables.into_iter().filter_map(Table::block);
            [figure(evidence, &run.rows)]
                .into_iter()
                .chain(tables)
                .collect()
        },
    );
    let nothing = "No decay run was given; “ragweave-eval decay” makes one.";
    Section::new(
        ["decay", "Decay over novel queries"],
        INTRODUCTION,
        nothing,
        blocks,
    )
}

/// The y axes begin at 0, so that noise does not look like decay.
fn figure(evidence: &Evidence<'_>, rows: &[Row]) -> Block {
    let curves = Curves::new(evidence, rows, "batch", |row: &Row| row.batch as f64);
    let x = || {
        let axis = Axis::linear("batch", curves.xs(), [f64::MIN, f64::MAX])?;
        Some(axis.at_whole_numbers())
    };
    let y = |unit: &'static str, most: f64| {
        move |values: Vec<f64>| {
            let top = values.into_iter().reduce(f64::max)?;
            Axis::linear(unit, [0.0, top], [0.0, most])
        }
    };
    let plots = [
        curves.plot("Hit rate by batch", x(), y("%", 100.0), |row| {
            row.hit_rate.map(|share| share * 100.0)
        }),
        curves.plot("TTFT p50 by batch", x(), y("ms", f64::MAX), |row| {
            row.ttft_ms_p50
        }),
        curves.plot("TTFT p95 by batch", x(), y("ms", f64::MAX), |row| {
            row.ttft_ms_p95
        }),
    ];
    Figure::of_plots(curves.keys(), plots).block()
}

/// The run's own verdict on each mode.
fn flatness(modes: &[Flatness]) -> Table {
    let pair = |pair: Option<[f64; 2]>, factor: f64| match pair {
        Some([first, last]) => Cell::text(format!("{:.1} → {:.1}", first * factor, last * factor)),
        None => Cell::text(DASH),
    };
    let caption = "The first batch and the last; where full prefill changed too, the machine did";
    Table::of(caption, modes)
        .column("mode", |mode| Cell::code(mode.mode()))
        .column("hit rate, %", move |mode| pair(mode.hit_rate, 100.0))
        .column("TTFT p50, ms", move |mode| {
            pair(Some(mode.ttft_ms_p50), 1.0)
        })
        .column("TTFT, last to first", |mode| {
            Cell::number(Some(mode.ttft_ratio), 3)
        })
        .column("of full prefill", |mode| {
            Cell::number(mode.ttft_ratio_of_full, 3)
        })
        .column("flat", |mode| {
            Cell::text(if mode.is_flat { "yes" } else { "no" })
        })
        .table()
}

fn table(evidence: &Evidence<'_>, rows: &[Row]) -> Table {
    let mut rows = evidence.ranked(rows);
    rows.sort_by_key(|row| (evidence.palette.rank(&row.mode()), row.batch));
    Table::of("Hit rate and time to first token by batch", rows)
        .column("mode", |row| Cell::code(row.mode()))
        .column("batch", |row| Cell::text(row.batch))
        .column("queries", |row| Cell::text(row.queries))
        .column("hit rate, %", |row| Cell::percent(row.hit_rate))
        .column("TTFT p50, ms", |row| Cell::number(row.ttft_ms_p50, 1))
        .column("TTFT p95, ms", |row| Cell::number(row.ttft_ms_p95, 1))
        .table()
}
