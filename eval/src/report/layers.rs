//! How deviation behaves over layers: does the choice made at one layer hold at the next, and do
//! few tokens hold most of it?

use super::chart::axis::{Axis, short, small};
use super::chart::plot::{Line, Plot, Point};
use super::chart::style::Style;
use super::document::{Block, Cell, Figure, Key, Section, Table};
use super::evidence::Evidence;
use super::run::Content;
use crate::quality::summary::DeviationRow;

const INTRODUCTION: &str = "First: Spearman rank correlation of the tokens' deviation between a \
    layer and the next; 1 means that the tokens chosen at one layer are the right ones at the \
    next. Second: the share of a layer's deviation, in percent, that its most deviating 10, 15 \
    and 20 % of tokens hold; the nearer to 100, the better few recomputed tokens can repair it \
    (evenly spread deviation would give 10, 15 and 20). Third, where it was measured: the mean \
    squared distance of stored from right K and V, relative to their squared norm; lower is \
    better.";

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let mut blocks = Vec::new();
    for run in evidence.runs {
        if let Content::Quality(quality, _) = &run.content {
            for row in &quality.deviation {
                let title = format!("{}, {} prompts, run {}", row.dataset, row.n, run.name);
                let plots = [correlation_plot(row), mass_plot(row), mean_plot(row)];
                let figure = Figure::of_plots(mass_keys(row), plots).block();
                blocks.extend([Block::Heading(title), figure]);
                blocks.extend(table(row).block());
            }
        }
    }
    let nothing = "No quality run with deviation figures was given.";
    Section::new(
        ["layers", "Deviation over layers"],
        INTRODUCTION,
        nothing,
        blocks,
    )
}

fn points(values: &[Option<f64>], factor: f64, name: &str) -> Vec<Point> {
    let point = |(layer, value): (usize, &Option<f64>)| {
        let y = (*value)? * factor;
        let title = format!("{name}, layer {layer}: {y:.3}");
        Some(Point::new(layer as f64, y, title))
    };
    values.iter().enumerate().filter_map(point).collect()
}

fn correlation_plot(row: &DeviationRow) -> Option<Plot> {
    let points = points(&row.rank_correlation, 1.0, "rank correlation");
    let values = points.iter().map(|point| point.y);
    let floor = match values.clone().all(|value| value >= 0.0) {
        true => 0.0,
        false => -1.0,
    };
    Plot::new(
        "Rank correlation of a layer with the next",
        layer_axis("layer (with the next one)", row.rank_correlation.len()),
        Axis::linear(
            "Spearman correlation",
            values.chain([0.0, 1.0]),
            [floor, 1.0],
        ),
        vec![Line::new(Style::FULL, points)],
    )
}

fn mass_plot(row: &DeviationRow) -> Option<Plot> {
    let layers = row.mass.values().map(Vec::len).max()?;
    let line = |(n, (share, values)): (usize, (&String, &Vec<Option<f64>>))| {
        Line::new(Style::nth(n), points(values, 100.0, &mass_name(share)))
    };
    Plot::new(
        "Deviation held by the most deviating tokens",
        layer_axis("layer", layers),
        Axis::linear("% of the layer's deviation", [0.0, 100.0], [0.0, 100.0]),
        row.mass.iter().enumerate().map(line).collect(),
    )
}

/// Logarithmic if layers differ tenfold; layers whose deviation is zero are not on that axis.
fn mean_plot(row: &DeviationRow) -> Option<Plot> {
    let points = points(&row.mean, 1.0, "mean deviation");
    let values = || points.iter().map(|point| point.y).filter(|&y| y > 0.0);
    let (low, high) = (values().reduce(f64::min)?, values().fold(0.0, f64::max));
    let y = match high / low >= 10.0 {
        true => Axis::log("relative", values()),
        false => Axis::linear("relative", [0.0, high], [0.0, f64::MAX]),
    };
    let lines = vec![Line::new(Style::FULL, points)];
    Plot::new(
        "Mean deviation",
        layer_axis("layer", row.mean.len()),
        y,
        lines,
    )
}

/// Numbers at whole layers only.
fn layer_axis(label: &str, layers: usize) -> Option<Axis> {
    let last = layers.checked_sub(1)?.max(1) as f64;
    let axis = Axis::linear(label, [0.0, last], [-0.5, layers as f64 - 0.5])?;
    Some(axis.at_whole_numbers())
}

fn mass_name(share: &str) -> String {
    match share.parse::<f64>() {
        Ok(share) => format!("top {} %", short(share * 100.0)),
        Err(_) => format!("top {share}"),
    }
}

fn mass_keys(row: &DeviationRow) -> Vec<Key> {
    let key = |(n, share): (usize, &String)| Key::new(Style::nth(n).sample(true), mass_name(share));
    row.mass.keys().enumerate().map(key).collect()
}

fn table(row: &DeviationRow) -> Table {
    let value = |values: &[Option<f64>], layer: &usize| values.get(*layer).copied().flatten();
    let lists = row.mass.values().chain([&row.rank_correlation, &row.mean]);
    let layers: Vec<usize> = (0..lists.map(Vec::len).max().unwrap_or(0)).collect();
    let caption = "Rank correlation, and share of deviation held in percent, by layer";
    Table::of(caption, &layers)
        .column("layer", Cell::text)
        .column("correlation with the next", |layer| {
            Cell::number(value(&row.rank_correlation, layer), 3)
        })
        .columns(
            &row.mass,
            |(share, _)| mass_name(share),
            |(_, values), layer| Cell::percent(value(values, layer)),
        )
        .column("mean deviation", |layer| {
            Cell::value(value(&row.mean, layer), small)
        })
        .table()
}
