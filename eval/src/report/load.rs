//! Time to first token and goodput against the rate at which requests arrive.

use serde_json::Value;

use super::chart::axis::{Axis, short};
use super::chart::plot::{Band, Join, Line, Markers, Plot, Point};
use super::chart::style::Style;
use super::curves::Curves;
use super::document::{Block, Cell, Figure, Key, Panel, Section, Table};
use super::evidence::Evidence;
use super::record::LoadRow;
use super::run::Content;

const INTRODUCTION: &str = "Requests arrive at random times at a given mean rate (open loop, \
    requests per second), whether or not earlier ones are answered. Median and 95th percentile of \
    the time to first token in ms on a logarithmic axis, lower is better; goodput is the requests \
    per second whose first token came within the objective, higher is better, and the grey diagonal \
    is every request offered.";

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let runs = evidence.runs_of(|content| match content {
        Content::Load(rows) => Some(rows.as_slice()),
        _ => None,
    });
    let mut blocks = vec![Block::Text(match runs.is_empty() {
        true => "No load run was given; “ragweave-eval load” makes one.".to_owned(),
        false => INTRODUCTION.to_owned(),
    })];
    for (label, run, rows) in runs {
        if !label.is_empty() {
            blocks.push(Block::Heading(label));
        }
        let slo_ms = objective(&run.header.config);
        blocks.push(figure(evidence, rows, slo_ms));
        blocks.extend(table(evidence, rows).block());
    }
    Section {
        id: "load",
        title: "Load",
        blocks,
    }
}

/// The TTFT objective, where the run's configuration names it.
fn objective(config: &Value) -> Option<f64> {
    config.get("slo_ttft_ms").and_then(Value::as_f64)
}

fn figure(evidence: &Evidence<'_>, rows: &[LoadRow], slo_ms: Option<f64>) -> Block {
    let curves = Curves::new(
        evidence,
        rows,
        LoadRow::mode,
        (|row| row.rate, "requests/s"),
    );
    let plots = [
        ttft_plot(&curves, "TTFT p50", slo_ms, |row| row.ttft_ms.p50.get()),
        ttft_plot(&curves, "TTFT p95", slo_ms, |row| row.ttft_ms.p95.get()),
        goodput_plot(&curves),
    ];
    let objective = slo_ms.map(|slo_ms| Key {
        sample: OBJECTIVE.sample(false),
        name: format!("objective, {} ms", short(slo_ms)),
    });
    let offered = Key {
        sample: OFFERED.sample(false),
        name: "every request offered".to_owned(),
    };
    let mut legend = curves.keys();
    legend.extend([offered].into_iter().chain(objective));
    let figure = Figure {
        legend,
        panels: Panel::of_plots(plots),
        ..Figure::default()
    };
    figure.block()
}

const OFFERED: Style = Style {
    colour: "#cfcfcf",
    dash: "",
    width: 3.0,
    ..Style::BASELINE
};
const OBJECTIVE: Style = Style {
    dash: "2 2",
    ..Style::FULL
};

fn ttft_plot(
    curves: &Curves<'_, LoadRow>,
    title: &str,
    slo_ms: Option<f64>,
    value: impl Fn(&LoadRow) -> Option<f64>,
) -> Option<Plot> {
    let values = curves.rows.iter().filter_map(&value);
    let band = |value| Band {
        name: "objective".to_owned(),
        style: OBJECTIVE,
        value,
        interval: None,
    };
    Some(Plot {
        title: format!("{title} against rate"),
        x: rate_axis(curves)?,
        y: Axis::log("ms (log scale)", values.chain(slo_ms))?,
        bands: slo_ms.map(band).into_iter().collect(),
        lines: curves.lines(value),
    })
}

fn goodput_plot(curves: &Curves<'_, LoadRow>) -> Option<Plot> {
    let value = |row: &LoadRow| row.goodput.get();
    let mut rates: Vec<f64> = curves.xs().collect();
    rates.sort_by(f64::total_cmp);
    let point = |&rate: &f64| Point::new(rate, rate, String::new());
    let offered = Line {
        style: OFFERED,
        points: rates.iter().map(point).collect(),
        join: Join::Straight,
        markers: Markers::Hidden,
    };
    let values = curves.rows.iter().filter_map(value);
    let heights = values.chain(rates).chain([0.0]);
    Some(Plot {
        title: "Goodput against rate".to_owned(),
        x: rate_axis(curves)?,
        y: Axis::linear("requests/s in time", heights, [0.0, f64::MAX])?,
        bands: Vec::new(),
        lines: [offered].into_iter().chain(curves.lines(value)).collect(),
    })
}

fn rate_axis(curves: &Curves<'_, LoadRow>) -> Option<Axis> {
    let highest = curves.xs().fold(0.0, f64::max);
    let rates = curves.xs().chain([0.0]);
    Axis::linear("requests/s offered", rates, [0.0, highest * 1.03])
}

fn table(evidence: &Evidence<'_>, rows: &[LoadRow]) -> Table {
    let header = [
        "mode",
        "rate",
        "n",
        "completed",
        "rejected",
        "TTFT p50",
        "TTFT p95",
        "TTFT p99",
        "TPOT p50",
        "ITL p95",
        "E2E p50",
        "E2E p95",
        "goodput",
        "achieved",
    ];
    let caption = "Load (times in ms, rates in requests/s)";
    let mut table = Table::new(caption, &header, 1);
    let mut rows: Vec<&LoadRow> = rows.iter().collect();
    rows.sort_by(|one, other| {
        let rank = |row: &LoadRow| evidence.palette.rank(&row.mode());
        rank(one)
            .cmp(&rank(other))
            .then_with(|| one.rate.total_cmp(&other.rate))
    });
    for row in rows {
        table.push(vec![
            Cell::code(row.mode().to_string()),
            Cell::text(short(row.rate)),
            Cell::text(row.n.to_string()),
            Cell::text(row.completed.to_string()),
            Cell::text(row.rejected.to_string()),
            Cell::number(row.ttft_ms.p50.get(), 1),
            Cell::number(row.ttft_ms.p95.get(), 1),
            Cell::number(row.ttft_ms.p99.get(), 1),
            Cell::number(row.tpot_ms.p50.get(), 2),
            Cell::number(row.itl_ms.p95.get(), 2),
            Cell::number(row.e2e_ms.p50.get(), 1),
            Cell::number(row.e2e_ms.p95.get(), 1),
            Cell::number(row.goodput.get(), 2),
            Cell::number(row.achieved_rate.get(), 2),
        ]);
    }
    table
}
