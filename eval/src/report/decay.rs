//! Hit rate and time to first token while novel queries follow one another.

use super::chart::axis::Axis;
use super::chart::plot::Plot;
use super::curves::Curves;
use super::document::{Block, Cell, DASH, Figure, Panel, Section, Table};
use super::evidence::Evidence;
use super::record::{Decay, DecayRow};
use super::run::Content;

const INTRODUCTION: &str = "Novel queries, one batch after another. Hit rate (share of chunks found \
    in the store, percent, higher is better) and time to first token in ms (lower is better) should \
    stay flat: a cache that fills with what nobody asks again would fall and slow down.";

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let runs = evidence.runs_of(|content| match content {
        Content::Decay(decay) => Some(decay),
        _ => None,
    });
    let mut blocks = vec![Block::Text(match runs.is_empty() {
        true => "No decay run was given; “ragweave-eval decay” makes one.".to_owned(),
        false => INTRODUCTION.to_owned(),
    })];
    for (label, _, decay) in runs {
        if !label.is_empty() {
            blocks.push(Block::Heading(label));
        }
        blocks.push(figure(evidence, &decay.rows));
        blocks.extend(flatness(decay).block());
        blocks.extend(table(evidence, &decay.rows).block());
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
        x: Axis::snug("batch", curves.xs())?.at_whole_numbers(),
        y: Axis::linear(unit, [0.0, top], bounds)?,
        bands: Vec::new(),
        lines: curves.lines(value),
    })
}

/// The run's own verdict on each mode.
fn flatness(decay: &Decay) -> Table {
    let header = [
        "mode",
        "hit rate, %",
        "TTFT p50, ms",
        "TTFT, last to first",
        "of full prefill",
        "flat",
    ];
    let caption =
        "The first batch and the last; a change that full prefill shows too is the machine's";
    let mut table = Table::new(caption, &header, 1);
    let pair = |pair: Option<(f64, f64)>, factor: f64| {
        let text = |(first, last)| format!("{:.1} → {:.1}", first * factor, last * factor);
        Cell::text(pair.map_or_else(|| DASH.to_owned(), text))
    };
    for mode in decay.flatness.iter().flatten() {
        table.push(vec![
            Cell::code(mode.mode().to_string()),
            pair(mode.hit_rate.get(), 100.0),
            pair(mode.ttft_ms_p50.get(), 1.0),
            Cell::number(mode.ttft_ratio.get(), 3),
            Cell::number(mode.ttft_ratio_of_full.get(), 3),
            Cell::text(match mode.is_flat {
                Some(true) => "yes",
                Some(false) => "no",
                None => DASH,
            }),
        ]);
    }
    table
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
