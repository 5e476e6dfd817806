//! How deviation behaves over layers: does the choice made at one layer hold at the next, and do
//! few tokens hold most of it?

use super::chart::axis::{Axis, short, small};
use super::chart::plot::{Join, Line, Markers, Plot, Point};
use super::chart::style::Style;
use super::document::{Block, Cell, DASH, Figure, Key, Panel, Section, Table};
use super::evidence::Evidence;
use super::record::{DeviationRow, Measure};
use super::run::Content;

const INTRODUCTION: &str = "First: Spearman rank correlation of the tokens' deviation between a \
    layer and the next; 1 means that the tokens chosen at one layer are the right ones at the next. \
    Second: the share of a layer's deviation, in percent, that its most deviating 10, 15 and 20 % of \
    tokens hold; the nearer to 100, the better few recomputed tokens can repair it (evenly spread \
    deviation would give 10, 15 and 20). Third, where it was measured: the mean squared distance of \
    stored from right K and V, relative to their squared norm; lower is better.";

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let mut blocks = Vec::new();
    for run in evidence.runs {
        if let Content::Quality(quality, _) = &run.content {
            for row in quality.deviation.iter().flatten() {
                let title = format!("{}, {} prompts, run {}", row.dataset, row.n, run.name);
                blocks.push(Block::Heading(title));
                blocks.extend(row_blocks(row));
            }
        }
    }
    let sentence = match blocks.is_empty() {
        true => "No quality run with deviation figures was given.",
        false => INTRODUCTION,
    };
    blocks.insert(0, Block::Text(sentence.to_owned()));
    Section {
        id: "layers",
        title: "Deviation over layers",
        blocks,
    }
}

fn row_blocks(row: &DeviationRow) -> Vec<Block> {
    let plots = [correlation_plot(row), mass_plot(row), mean_plot(row)];
    let figure = Figure {
        legend: mass_keys(row),
        panels: Panel::of_plots(plots),
        ..Figure::default()
    }
    .block();
    [figure].into_iter().chain(table(row).block()).collect()
}

fn points(values: &[Measure], factor: f64, name: &str) -> Vec<Point> {
    let point = |(layer, value): (usize, &Measure)| {
        let y = value.get()? * factor;
        let title = format!("{name}, layer {layer}: {y:.3}");
        Some(Point::new(layer as f64, y, title))
    };
    values.iter().enumerate().filter_map(point).collect()
}

fn line(style: Style, points: Vec<Point>) -> Line {
    Line {
        style,
        points,
        join: Join::Straight,
        markers: Markers::Shown,
    }
}

fn correlation_plot(row: &DeviationRow) -> Option<Plot> {
    let points = points(&row.rank_correlation, 1.0, "rank correlation");
    let values = points.iter().map(|point| point.y);
    let floor = if values.clone().all(|value| value >= 0.0) {
        0.0
    } else {
        -1.0
    };
    Some(Plot {
        title: "Rank correlation of a layer with the next".to_owned(),
        x: layer_axis("layer (with the next one)", row.rank_correlation.len())?,
        y: Axis::linear(
            "Spearman correlation",
            values.chain([0.0, 1.0]),
            [floor, 1.0],
        )?,
        bands: Vec::new(),
        lines: vec![line(Style::FULL, points)],
    })
}

fn mass_plot(row: &DeviationRow) -> Option<Plot> {
    let layers = row.mass.values().map(Vec::len).max()?;
    let line = |(n, (share, values)): (usize, (&String, &Vec<Measure>))| {
        line(Style::nth(n), points(values, 100.0, &mass_name(share)))
    };
    Some(Plot {
        title: "Deviation held by the most deviating tokens".to_owned(),
        x: layer_axis("layer", layers)?,
        y: Axis::linear("% of the layer's deviation", [0.0, 100.0], [0.0, 100.0])?,
        bands: Vec::new(),
        lines: row.mass.iter().enumerate().map(line).collect(),
    })
}

/// Logarithmic where layers differ tenfold; layers whose deviation is zero are not on that axis.
fn mean_plot(row: &DeviationRow) -> Option<Plot> {
    let points = points(&row.mean, 1.0, "mean deviation");
    let values = || points.iter().map(|point| point.y).filter(|&y| y > 0.0);
    let (low, high) = (values().reduce(f64::min)?, values().fold(0.0, f64::max));
    let y = match high / low >= 10.0 {
        true => Axis::log("relative (log scale)", values())?,
        false => Axis::linear("relative", [0.0, high], [0.0, f64::MAX])?,
    };
    Some(Plot {
        title: "Mean deviation".to_owned(),
        x: layer_axis("layer", row.mean.len())?,
        y,
        bands: Vec::new(),
        lines: vec![line(Style::FULL, points)],
    })
}

/// Ticks at whole layers alone.
fn layer_axis(label: &str, layers: usize) -> Option<Axis> {
    let axis = Axis::linear(
        label,
        [0.0, layers.checked_sub(1)?.max(1) as f64],
        [-0.5, layers as f64 - 0.5],
    )?;
    Some(axis.at_whole_numbers())
}

fn mass_name(share: &str) -> String {
    match share.parse::<f64>() {
        Ok(share) => format!("top {} %", short(share * 100.0)),
        Err(_) => format!("top {share}"),
    }
}

fn mass_keys(row: &DeviationRow) -> Vec<Key> {
    let key = |(n, share): (usize, &String)| Key {
        sample: Style::nth(n).sample(true),
        name: mass_name(share),
    };
    row.mass.keys().enumerate().map(key).collect()
}

fn table(row: &DeviationRow) -> Table {
    let mut header = vec!["layer".to_owned(), "correlation with the next".to_owned()];
    header.extend(row.mass.keys().map(|share| mass_name(share)));
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let caption = "Rank correlation, and share of deviation held in percent, by layer";
    let mut table = Table::new(caption, &header, 1);
    let layers = row.mass.values().map(Vec::len).max().unwrap_or(0);
    table.header.push(Cell::text("mean deviation"));
    for layer in 0..layers.max(row.rank_correlation.len()).max(row.mean.len()) {
        let value = |values: &[Measure]| values.get(layer).and_then(|value| value.get());
        let mut cells = vec![
            Cell::text(layer.to_string()),
            Cell::number(value(&row.rank_correlation), 3),
        ];
        cells.extend(row.mass.values().map(|values| Cell::percent(value(values))));
        let mean = value(&row.mean).map(small);
        cells.push(Cell::text(mean.unwrap_or_else(|| DASH.to_owned())));
        table.push(cells);
    }
    table
}
