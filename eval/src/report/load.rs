//! Time to first token and goodput against the rate at which requests arrive.

use serde_json::Value;

use super::chart::axis::{Axis, short};
use super::chart::plot::{Band, Line, Markers, Plot, Point};
use super::chart::style::Style;
use super::curves::Curves;
use super::document::{Block, Cell, Figure, Key, Section, Table};
use super::evidence::Evidence;
use super::mode::OfMode;
use super::run::Content;
use crate::load::report::Row;

const INTRODUCTION: &str = "Requests arrive at random times at a given mean rate (open loop, \
    requests per second), whether or not earlier ones are answered. Median and 95th percentile of \
    the time to first token in ms on a logarithmic axis, lower is better; goodput is the requests \
    per second whose first token came within the objective, higher is better, and the grey \
    diagonal is every request offered.";

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let blocks = evidence.of_runs(
        |content| match content {
            Content::Load(run) => Some(&run.rows),
            _ => None,
        },
        |run, rows| {
            let figure = figure(evidence, rows, objective(&run.header.config));
            let table = table(evidence, rows).block();
            [figure].into_iter().chain(table).collect()
        },
    );
    let nothing = "No load run was given; “ragweave-eval load” makes one.";
    Section::new(["load", "Load"], INTRODUCTION, nothing, blocks)
}

/// The TTFT objective, where the run's configuration names it.
fn objective(config: &Value) -> Option<f64> {
    config.get("slo_ttft_ms").and_then(Value::as_f64)
}

const OFFERED: Style = Style {
    colour: "#cfcfcf",
    dash: "",
    width: 5.0,
    ..Style::BASELINE
};
const OBJECTIVE: Style = Style {
    dash: "4 4",
    ..Style::FULL
};

fn figure(evidence: &Evidence<'_>, rows: &[Row], slo_ms: Option<f64>) -> Block {
    let curves = Curves::new(evidence, rows, "requests/s", |row: &Row| row.rate);
    let plots = [
        ttft_plot(&curves, "TTFT p50 against rate", slo_ms, |row| {
            row.figures.ttft_ms.p50
        }),
        ttft_plot(&curves, "TTFT p95 against rate", slo_ms, |row| {
            row.figures.ttft_ms.p95
        }),
        goodput_plot(&curves),
    ];
    let mut legend = curves.keys();
    legend.push(Key::new(OFFERED.sample(false), "every request offered"));
    legend.extend(slo_ms.map(|slo_ms| {
        let name = format!("objective, {} ms", short(slo_ms));
        Key::new(OBJECTIVE.sample(false), name)
    }));
    Figure::of_plots(legend, plots).block()
}

fn ttft_plot(
    curves: &Curves<'_, Row>,
    title: &str,
    slo_ms: Option<f64>,
    value: impl Fn(&Row) -> Option<f64>,
) -> Option<Plot> {
    let y = |values: Vec<f64>| Axis::log("ms", values.into_iter().chain(slo_ms));
    let band = |value| Band {
        name: "objective".to_owned(),
        style: OBJECTIVE,
        value,
        interval: None,
    };
    Some(Plot {
        bands: slo_ms.map(band).into_iter().collect(),
        ..curves.plot(title, rate_axis(curves), y, value)?
    })
}

fn goodput_plot(curves: &Curves<'_, Row>) -> Option<Plot> {
    let mut rates: Vec<f64> = curves.xs().collect();
    rates.sort_by(f64::total_cmp);
    let point = |&rate: &f64| Point::new(rate, rate, String::new());
    let offered = Line {
        markers: Markers::Hidden,
        ..Line::new(OFFERED, rates.iter().map(point).collect())
    };
    let y = |values: Vec<f64>| {
        let heights = values.into_iter().chain(rates).chain([0.0]);
        Axis::linear("requests/s in time", heights, [0.0, f64::MAX])
    };
    let mut plot = curves.plot("Goodput against rate", rate_axis(curves), y, |row| {
        row.figures.goodput
    })?;
    plot.lines.insert(0, offered);
    Some(plot)
}

fn rate_axis(curves: &Curves<'_, Row>) -> Option<Axis> {
    let rates = curves.xs().chain([0.0]);
    Axis::linear("requests/s offered", rates, [0.0, f64::MAX])
}

fn table(evidence: &Evidence<'_>, rows: &[Row]) -> Table {
    let mut rows = evidence.ranked(rows);
    rows.sort_by(|one, other| {
        let rank = |row: &Row| evidence.palette.rank(&row.mode());
        let by_rate = one.rate.total_cmp(&other.rate);
        rank(one).cmp(&rank(other)).then(by_rate)
    });
    Table::of("Load (times in ms, rates in requests/s)", rows)
        .column("mode", |row| Cell::code(row.mode()))
        .column("rate", |row| Cell::text(short(row.rate)))
        .column("n", |row| Cell::text(row.figures.n))
        .column("completed", |row| Cell::text(row.figures.completed))
        .column("rejected", |row| Cell::text(row.figures.rejected))
        .column("TTFT p50", |row| Cell::number(row.figures.ttft_ms.p50, 1))
        .column("TTFT p95", |row| Cell::number(row.figures.ttft_ms.p95, 1))
        .column("TTFT p99", |row| Cell::number(row.figures.ttft_ms.p99, 1))
        .column("TPOT p50", |row| Cell::number(row.figures.tpot_ms.p50, 2))
        .column("ITL p95", |row| Cell::number(row.figures.itl_ms.p95, 2))
        .column("E2E p50", |row| Cell::number(row.figures.e2e_ms.p50, 1))
        .column("E2E p95", |row| Cell::number(row.figures.e2e_ms.p95, 1))
        .column("goodput", |row| Cell::number(row.figures.goodput, 2))
        .column("achieved", |row| Cell::number(row.figures.achieved_rate, 2))
        .table()
}
