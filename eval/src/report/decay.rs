//! Hit rate and time to first token while novel queries follow one another.

use super::chart::axis::{Axis, short};
use super::chart::plot::{Join, Line, Markers, Plot, Point};
use super::chart::style::Style;
use super::document::{Block, Cell, Figure, Panel, Section, Table};
use super::evidence::Evidence;
use super::record::{DecayRow, ModeName};

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
    let modes = evidence.modes(rows.iter().map(DecayRow::mode));
    let hit_rate = |row: &DecayRow| row.hit_rate.get().map(|share| share * 100.0);
    let plots = [
        plot(
            evidence,
            rows,
            &modes,
            ("Hit rate", "%", [0.0, 100.0]),
            hit_rate,
        ),
        plot(
            evidence,
            rows,
            &modes,
            ("TTFT p50", "ms", [0.0, f64::MAX]),
            |row| row.ttft_ms_p50.get(),
        ),
        plot(
            evidence,
            rows,
            &modes,
            ("TTFT p95", "ms", [0.0, f64::MAX]),
            |row| row.ttft_ms_p95.get(),
        ),
    ];
    Figure {
        legend: evidence.mode_keys(&modes),
        panels: plots
            .into_iter()
            .flatten()
            .map(|plot| Panel::new(plot.svg()))
            .collect(),
        ..Figure::default()
    }
    .block()
}

/// The y axis begins at 0, so that noise does not look like decay.
fn plot(
    evidence: &Evidence<'_>,
    rows: &[DecayRow],
    modes: &[ModeName],
    (title, unit, bounds): (&str, &str, [f64; 2]),
    value: impl Fn(&DecayRow) -> Option<f64>,
) -> Option<Plot> {
    let batches = rows.iter().map(|row| row.batch as f64);
    let values: Vec<f64> = rows.iter().filter_map(&value).collect();
    let top = values.iter().copied().reduce(f64::max)?;
    let styles = evidence.palette.mode_styles(modes);
    let lines = modes.iter().zip(styles);
    Some(Plot {
        title: format!("{title} by batch"),
        x: Axis::linear("batch", batches, [0.0, f64::MAX])?.at_whole_numbers(),
        y: Axis::linear(unit, [0.0, top], bounds)?,
        bands: Vec::new(),
        lines: lines
            .map(|(mode, style)| line(rows, mode, style, &value))
            .collect(),
    })
}

fn line(
    rows: &[DecayRow],
    mode: &ModeName,
    style: Style,
    value: &impl Fn(&DecayRow) -> Option<f64>,
) -> Line {
    let own = rows.iter().filter(|row| row.mode() == *mode);
    let mut points: Vec<Point> = own
        .filter_map(|row| {
            let y = value(row)?;
            Some(Point {
                x: row.batch as f64,
                y,
                interval: None,
                title: format!("{mode}, batch {}: {}", row.batch, short(y)),
                hollow: false,
            })
        })
        .collect();
    points.sort_by(|one, other| one.x.total_cmp(&other.x));
    Line {
        style,
        points,
        join: Join::Straight,
        markers: Markers::Shown,
    }
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
