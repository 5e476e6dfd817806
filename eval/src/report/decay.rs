//! Hit rate and time to first token while novel queries follow one another.

use super::chart::axis::Axis;
use super::chart::plot::Plot;
use super::curves::Curves;
use super::document::{Block, Cell, Figure, Panel, Section, Table};
use super::evidence::Evidence;
use super::record::DecayRow;

const INTRODUCTION: &str = "Novel queries, one batch after another. Hit rate (share of chunks found \
    in the store, percent, higher is better) and time to first token in ms (lower is better) should \
    stay flat: a cache that fills with what nobody asks again would fall and slow down.";

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let runs = evidence.decay();
    let mut blocks = vec![Block::Text(match runs.is_empty() {
        true => "No decay run was given; “ragweave-eval decay” makes one.".to_owned(),
        false => INTRODUCTION.to_owned(),
    })];
    for (label, rows) in runs {
        if !label.is_empty() {
            blocks.push(Block::Heading(label));
        }
        blocks.push(figure(evidence, rows));
        blocks.extend(table(evidence, rows).block());
    }
    Section {
        id: "decay",
        title: "Decay over novel queries",
        blocks,
    }
}

fn figure(evidence: &Evidence<'_>, rows: &[DecayRow]) -> Block {
    let curves = Curves::new(
        evidence,
        rows,
        DecayRow::mode,
        (|row| row.batch as f64, "batch"),
    );
    let any = [0.0, f64::MAX];
    let plots = [
        plot(&curves, ("Hit rate", "%", [0.0, 100.0]), |row| {
            row.hit_rate.get().map(|share| share * 100.0)
        }),
        plot(&curves, ("TTFT p50", "ms", any), |row| {
            row.ttft_ms_p50.get()
        }),
        plot(&curves, ("TTFT p95", "ms", any), |row| {
            row.ttft_ms_p95.get()
        }),
    ];
    let figure = Figure {
        legend: curves.keys(),
        panels: Panel::of_plots(plots),
        ..Figure::default()
    };
    figure.block()
}

/// The y axis begins at 0, so that noise does not look like decay.
fn plot(
    curves: &Curves<'_, DecayRow>,
    (title, unit, bounds): (&str, &str, [f64; 2]),
    value: impl Fn(&DecayRow) -> Option<f64>,
) -> Option<Plot> {
    let top = curves.rows.iter().filter_map(&value).reduce(f64::max)?;
    Some(Plot {
        title: format!("{title} by batch"),
        x: Axis::linear("batch", curves.xs(), [0.0, f64::MAX])?.at_whole_numbers(),
        y: Axis::linear(unit, [0.0, top], bounds)?,
        bands: Vec::new(),
        lines: curves.lines(value),
    })
}

fn table(evidence: &Evidence<'_>, rows: &[DecayRow]) -> Table {
    let header = [
        "mode",
        "batch",
        "queries",
        "hit rate, %",
        "TTFT p50, ms",
        "TTFT p95, ms",
    ];
    let mut table = Table::new("Hit rate and time to first token by batch", &header, 1);
    let mut rows: Vec<&DecayRow> = rows.iter().collect();
    rows.sort_by_key(|row| (evidence.palette.rank(&row.mode()), row.batch));
    for row in rows {
        table.push(vec![
            Cell::code(row.mode().to_string()),
            Cell::text(row.batch.to_string()),
            Cell::text(row.queries.to_string()),
            Cell::percent(row.hit_rate.get()),
            Cell::number(row.ttft_ms_p50.get(), 1),
            Cell::number(row.ttft_ms_p95.get(), 1),
        ]);
    }
    table
}
