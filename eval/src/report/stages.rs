//! Where the time to first token goes, and how it grows with the context.

use kuva::plot::fill_pattern::FillPattern;

use super::chart::axis::Axis;
use super::chart::bars::{Bar, Bars, Part};
use super::curves::Curves;
use super::document::{Block, Cell, Figure, Key, Panel, Section, Table, Width};
use super::evidence::Evidence;
use super::mode::OfMode;
use super::run::Content;
use crate::ttft::report::Row;

/// Most context lengths for which bars are drawn.
const MAX_LENGTHS: usize = 4;

const INTRODUCTION: &str = "Each bar is a mode's median time to first token in ms, cut into its \
    stages (the medians of each); shorter is better, and the number after it is the sum. Stored \
    KV is read while layers compute, so reading is the thin line below a bar, and only the time \
    that computing stood still for it is part of the bar.";

/// The parts of a bar, in the order they happen, from light to dark to light: the stage, and its
/// look.
const PARTS: [(&str, Part); 8] = [
    ("queue_ms", part("queue", "#b9b9b9", FillPattern::Dots)),
    ("embed_ms", part("embed", "#e0a030", FillPattern::Solid)),
    (
        "search_ms",
        part("search", "#b86e00", FillPattern::DiagonalForward),
    ),
    (
        "load_wait_ms",
        part("wait for load", "#c8402f", FillPattern::DiagonalCrosshatch),
    ),
    (
        "probe_ms",
        part("probe", "#23845a", FillPattern::DiagonalBack),
    ),
    (
        "recompute_ms",
        part("compute", "#0b62a8", FillPattern::Solid),
    ),
    (
        "first_decode_ms",
        part("first decode", "#8246af", FillPattern::Vertical),
    ),
    // The rest of the time, which no stage accounts for.
    ("", part("other", "#dedede", FillPattern::Solid)),
];

const fn part(name: &'static str, colour: &'static str, pattern: FillPattern) -> Part {
    Part {
        name,
        colour,
        pattern,
    }
}

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let blocks = evidence.of_runs(
        |content| match content {
            Content::Ttft(run) => Some(&run.rows),
            _ => None,
        },
        |_, rows| {
            let mut blocks = stage_figure(evidence, rows);
            blocks.extend(length_blocks(evidence, rows));
            blocks.extend(table(evidence, rows).block());
            blocks
        },
    );
    let name = ["stages", "Time to first token: stages and context length"];
    let nothing = "No ttft run was given; “ragweave-eval ttft” makes one.";
    Section::new(name, INTRODUCTION, nothing, blocks)
}

fn stage_figure(evidence: &Evidence<'_>, rows: &[Row]) -> Vec<Block> {
    let lengths = lengths(rows);
    let shown = spread_out(&lengths, MAX_LENGTHS);
    let left_out = (shown.len() < lengths.len()).then(|| {
        let (shown, all) = (shown.len(), lengths.len());
        let sentence = format!("Bars for {shown} of {all} context lengths; the table has all.");
        Block::Text(sentence)
    });
    let panels = shown
        .iter()
        .filter_map(|&length| bars(evidence, rows, length).map(Panel::new));
    let figure = Figure {
        legend: stage_keys(rows),
        panels: panels.collect(),
        width: Width::Half,
        ..Figure::default()
    };
    left_out.into_iter().chain([figure.block()]).collect()
}

fn lengths(rows: &[Row]) -> Vec<usize> {
    let mut lengths: Vec<usize> = rows.iter().map(|row| row.context_tokens).collect();
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

/// At most `max` of the values, evenly spread, with the first and the last.
fn spread_out(values: &[usize], max: usize) -> Vec<usize> {
    if values.len() <= max {
        return values.to_vec();
    }
    let last = values.len() - 1;
    (0..max).map(|n| values[n * last / (max - 1)]).collect()
}

/// Only the parts that some bar has.
fn stage_keys(rows: &[Row]) -> Vec<Key> {
    let used = |n: &usize| rows.iter().any(|row| parts(row)[*n] > 0.0);
    let keys = (0..PARTS.len()).filter(used).map(|n| &PARTS[n].1);
    keys.map(|part| Key::new(part.sample(), part.name))
        .collect()
}

fn bars(evidence: &Evidence<'_>, rows: &[Row], length: usize) -> Option<maud::Markup> {
    let of_length = rows.iter().filter(|row| row.context_tokens == length);
    let bar = |row: &Row| Bar {
        name: row.mode().to_string(),
        parts: parts(row),
        beside: stage(row, "load_ms"),
    };
    let bars = Bars {
        title: format!("{length} context tokens"),
        axis_label: "ms",
        parts: &PARTS.map(|(_, part)| part),
        bars: evidence.ranked(of_length).into_iter().map(bar).collect(),
    };
    bars.svg()
}

/// The median of a stage.
fn stage(row: &Row, name: &str) -> Option<f64> {
    row.stages.get(name)?.as_f64()
}

/// The lengths of a bar's parts. A negative rest comes from rounding of medians and is left out.
fn parts(row: &Row) -> Vec<f64> {
    let [named @ .., _] = &PARTS;
    let part = |(name, _): &(&str, Part)| stage(row, name).unwrap_or(0.0).max(0.0);
    let mut parts: Vec<f64> = named.iter().map(part).collect();
    let known: f64 = parts.iter().sum();
    let rest = row.ttft_ms_p50.map_or(0.0, |ttft| ttft - known);
    parts.push(if known > 0.0 { rest.max(0.0) } else { 0.0 });
    parts
}

fn length_blocks(evidence: &Evidence<'_>, rows: &[Row]) -> Vec<Block> {
    if lengths(rows).len() < 2 {
        let sentence = "One context length was measured, so there is no curve over it.";
        return vec![Block::Text(sentence.to_owned())];
    }
    let curves = Curves::new(evidence, rows, "tokens", |row: &Row| {
        row.context_tokens as f64
    });
    let x = || Axis::log("context tokens", curves.xs());
    let log = |values: Vec<f64>| Axis::log("ms", values);
    let from = |label: &'static str, least: f64| {
        move |values: Vec<f64>| {
            Axis::linear(label, values.into_iter().chain([least]), [0.0, f64::MAX])
        }
    };
    let plots = [
        curves.plot("TTFT p50 against context", x(), log, |row| row.ttft_ms_p50),
        curves.plot("TTFT p95 against context", x(), log, |row| row.ttft_ms_p95),
        curves.plot(
            "Speed-up over full prefill",
            x(),
            from("times faster", 1.0),
            |row| row.speedup_vs_full,
        ),
        curves.plot(
            "Peak memory against context",
            x(),
            from("MiB", 0.0),
            |row| row.peak_memory_mib,
        ),
    ];
    let sentence = "Time to first token against the tokens of context, both axes logarithmic: \
        median, 95th percentile (lower is better), how many times faster than full prefill \
        (higher is better; 1 is no gain), and the most memory that the process held meanwhile, \
        the model included.";
    vec![
        Block::Text(sentence.to_owned()),
        Figure::of_plots(curves.keys(), plots).block(),
    ]
}

fn table(evidence: &Evidence<'_>, rows: &[Row]) -> Table {
    let mut rows = evidence.ranked(rows);
    rows.sort_by_key(|row| row.context_tokens);
    let stages = [
        ("queue", "queue_ms"),
        ("embed", "embed_ms"),
        ("search", "search_ms"),
        ("load", "load_ms"),
        ("load wait", "load_wait_ms"),
        ("probe", "probe_ms"),
        ("compute", "recompute_ms"),
        ("first decode", "first_decode_ms"),
    ];
    let caption = "Time to first token and its stages, ms (medians unless said)";
    Table::of(caption, rows)
        .column("mode", |row| Cell::code(row.mode()))
        .column("context tokens", |row| Cell::text(row.context_tokens))
        .column("n", |row| Cell::text(row.n))
        .column("p50", |row| Cell::number(row.ttft_ms_p50, 1))
        .column("p95", |row| Cell::number(row.ttft_ms_p95, 1))
        .column("speed-up", |row| Cell::number(row.speedup_vs_full, 2))
        .column("peak MiB", |row| Cell::number(row.peak_memory_mib, 0))
        .columns(
            stages,
            |(title, _)| (*title).to_owned(),
            |(_, name), row| Cell::number(stage(row, name), 2),
        )
        .table()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_lengths_are_spread_over_all() {
        assert_eq!(spread_out(&[1, 2, 3], 4), [1, 2, 3]);
        assert_eq!(spread_out(&[1, 2, 3, 4, 5, 6, 7], 4), [1, 3, 5, 7]);
    }

    #[test]
    fn the_rest_of_a_time_is_a_part_of_its_own() {
        let row: Row = serde_json::from_str(
            r#"{"policy": "full", "context_tokens": 9, "ttft_ms_p50": 10.0,
                "stages": {"recompute_ms": 7.0, "first_decode_ms": null}}"#,
        )
        .unwrap();
        assert_eq!(parts(&row), [0.0, 0.0, 0.0, 0.0, 0.0, 7.0, 0.0, 3.0]);
    }
}
