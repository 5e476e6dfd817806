//! Where the time to first token goes, and how it grows with the context.

use super::chart::axis::Axis;
use super::chart::bars::{Bar, Bars, Part, Pattern};
use super::chart::plot::Plot;
use super::curves::Curves;
use super::document::{Block, Cell, Figure, Key, Panel, Section, Table, Width};
use super::evidence::Evidence;
use super::record::{Stages, TtftRow};
use super::run::Content;

/// Bars are drawn for at most so many context lengths.
const MAX_LENGTHS: usize = 4;

const INTRODUCTION: &str = "Each bar is a mode's median time to first token in ms, cut into its \
    stages (the medians of each); shorter is better, and the number behind it is the sum. Stored \
    KV is read while layers compute, so reading is the thin line below a bar, and only the time \
    that computing stood still for it is part of the bar.";

/// The parts of a bar, in the order they happen, from light to dark to light.
const PARTS: [Part; 8] = [
    part("queue", "#b9b9b9", Pattern::Dots),
    part("embed", "#e0a030", Pattern::Plain),
    part("search", "#b86e00", Pattern::Rising),
    part("wait for load", "#c8402f", Pattern::Crossed),
    part("probe", "#23845a", Pattern::Falling),
    part("compute", "#0b62a8", Pattern::Plain),
    part("first decode", "#8246af", Pattern::Upright),
    part("other", "#dedede", Pattern::Plain),
];

const fn part(name: &'static str, colour: &'static str, pattern: Pattern) -> Part {
    Part {
        name,
        colour,
        pattern,
    }
}

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let runs = evidence.runs_of(|content| match content {
        Content::Ttft(rows) => Some(rows.as_slice()),
        _ => None,
    });
    let mut blocks = vec![Block::Text(match runs.is_empty() {
        true => "No ttft run was given; “ragweave-eval ttft” makes one.".to_owned(),
        false => INTRODUCTION.to_owned(),
    })];
    for (label, _, rows) in runs {
        if !label.is_empty() {
            blocks.push(Block::Heading(label));
        }
        blocks.extend(stage_figure(evidence, rows));
        blocks.extend(length_blocks(evidence, rows));
        blocks.extend(table(evidence, rows).block());
    }
    Section {
        id: "stages",
        title: "Time to first token: stages and context length",
        blocks,
    }
}

fn stage_figure(evidence: &Evidence<'_>, rows: &[TtftRow]) -> Vec<Block> {
    let lengths = lengths(rows);
    let shown = spread_out(&lengths, MAX_LENGTHS);
    let panels: Vec<Panel> = shown
        .iter()
        .filter_map(|&length| bars(evidence, rows, length).map(Panel::new))
        .collect();
    let mut blocks = Vec::new();
    if shown.len() < lengths.len() {
        blocks.push(Block::Text(format!(
            "Bars for {} of {} context lengths; the table has all.",
            shown.len(),
            lengths.len()
        )));
    }
    blocks.push(
        Figure {
            legend: stage_keys(rows),
            panels,
            width: Width::Half,
            ..Figure::default()
        }
        .block(),
    );
    blocks
}

fn lengths(rows: &[TtftRow]) -> Vec<usize> {
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
fn stage_keys(rows: &[TtftRow]) -> Vec<Key> {
    let used = |n: &usize| rows.iter().any(|row| parts(row)[*n] > 0.0);
    let keys = (0..PARTS.len()).filter(used).map(|n| Key {
        sample: PARTS[n].sample(),
        name: PARTS[n].name.to_owned(),
    });
    keys.collect()
}

fn bars(evidence: &Evidence<'_>, rows: &[TtftRow], length: usize) -> Option<maud::Markup> {
    let mut rows: Vec<&TtftRow> = rows
        .iter()
        .filter(|row| row.context_tokens == length)
        .collect();
    rows.sort_by_key(|row| evidence.palette.rank(&row.mode()));
    let bar = |row: &&TtftRow| {
        let parts = parts(row);
        Bar {
            name: row.mode().to_string(),
            total: Some(parts.iter().sum()),
            parts,
            beside: row.stages.load_ms.get(),
        }
    };
    let bars = Bars {
        title: format!("{length} context tokens"),
        axis_label: "ms",
        parts: &PARTS,
        bars: rows.iter().map(bar).collect(),
    };
    bars.svg()
}

/// What a row's bar is made of; a negative rest is rounding of medians and left out.
fn parts(row: &TtftRow) -> Vec<f64> {
    let Stages {
        queue_ms,
        embed_ms,
        search_ms,
        load_ms: _,
        load_wait_ms,
        probe_ms,
        recompute_ms,
        first_decode_ms,
    } = &row.stages;
    let named = [
        queue_ms,
        embed_ms,
        search_ms,
        load_wait_ms,
        probe_ms,
        recompute_ms,
        first_decode_ms,
    ];
    let mut parts: Vec<f64> = named
        .iter()
        .map(|part| part.get().unwrap_or(0.0).max(0.0))
        .collect();
    let known: f64 = parts.iter().sum();
    let rest = row.ttft_ms_p50.get().map_or(0.0, |ttft| ttft - known);
    parts.push(if known > 0.0 { rest.max(0.0) } else { 0.0 });
    parts
}

fn length_blocks(evidence: &Evidence<'_>, rows: &[TtftRow]) -> Vec<Block> {
    let lengths = lengths(rows);
    if lengths.len() < 2 {
        let sentence = "One context length was measured, so there is no curve over it.";
        return vec![Block::Text(sentence.to_owned())];
    }
    let length = (|row: &TtftRow| row.context_tokens as f64) as fn(&TtftRow) -> f64;
    let curves = Curves::new(evidence, rows, TtftRow::mode, (length, "tokens"));
    let plots = [
        length_plot(&curves, "TTFT p50", |row| row.ttft_ms_p50.get()),
        length_plot(&curves, "TTFT p95", |row| row.ttft_ms_p95.get()),
        speedup_plot(&curves),
        memory_plot(&curves),
    ];
    let sentence = "Time to first token against the tokens of context, both axes logarithmic: \
        median, 95th percentile (lower is better), how many times faster than full prefill \
        (higher is better; 1 is no gain), and the most memory that the process held meanwhile, \
        the model among it.";
    vec![
        Block::Text(sentence.to_owned()),
        Figure {
            legend: curves.keys(),
            panels: Panel::of_plots(plots),
            ..Figure::default()
        }
        .block(),
    ]
}

fn length_plot(
    curves: &Curves<'_, TtftRow>,
    title: &str,
    value: impl Fn(&TtftRow) -> Option<f64>,
) -> Option<Plot> {
    let values = curves.rows.iter().filter_map(&value);
    Some(Plot {
        title: format!("{title} against context"),
        x: length_axis(curves)?,
        y: Axis::log(&format!("{title}, ms (log scale)"), values)?,
        bands: Vec::new(),
        lines: curves.lines(value),
    })
}

fn speedup_plot(curves: &Curves<'_, TtftRow>) -> Option<Plot> {
    let value = |row: &TtftRow| row.speedup_vs_full.get();
    let values = curves.rows.iter().filter_map(value);
    Some(Plot {
        title: "Speed-up over full prefill".to_owned(),
        x: length_axis(curves)?,
        y: Axis::linear("times faster", values.chain([1.0]), [0.0, f64::MAX])?,
        bands: Vec::new(),
        lines: curves.lines(value),
    })
}

fn memory_plot(curves: &Curves<'_, TtftRow>) -> Option<Plot> {
    let value = |row: &TtftRow| row.peak_memory_mib.get();
    let values = curves.rows.iter().filter_map(value);
    Some(Plot {
        title: "Peak memory against context".to_owned(),
        x: length_axis(curves)?,
        y: Axis::linear("MiB", values.chain([0.0]), [0.0, f64::MAX])?,
        bands: Vec::new(),
        lines: curves.lines(value),
    })
}

fn length_axis(curves: &Curves<'_, TtftRow>) -> Option<Axis> {
    Axis::log_at("context tokens (log scale)", curves.xs())
}

fn table(evidence: &Evidence<'_>, rows: &[TtftRow]) -> Table {
    let header = [
        "mode",
        "context tokens",
        "n",
        "p50",
        "p95",
        "speed-up",
        "peak MiB",
        "queue",
        "embed",
        "search",
        "load",
        "load wait",
        "probe",
        "compute",
        "first decode",
    ];
    let caption = "Time to first token and its stages, ms (medians unless said)";
    let mut table = Table::new(caption, &header, 1);
    let mut rows: Vec<&TtftRow> = rows.iter().collect();
    rows.sort_by_key(|row| (row.context_tokens, evidence.palette.rank(&row.mode())));
    for row in rows {
        let stages = &row.stages;
        let mut cells = vec![
            Cell::code(row.mode().to_string()),
            Cell::text(row.context_tokens.to_string()),
            Cell::text(row.n.to_string()),
            Cell::number(row.ttft_ms_p50.get(), 1),
            Cell::number(row.ttft_ms_p95.get(), 1),
            Cell::number(row.speedup_vs_full.get(), 2),
            Cell::number(row.peak_memory_mib.get(), 0),
        ];
        let stages = [
            stages.queue_ms,
            stages.embed_ms,
            stages.search_ms,
            stages.load_ms,
            stages.load_wait_ms,
            stages.probe_ms,
            stages.recompute_ms,
            stages.first_decode_ms,
        ];
        cells.extend(stages.map(|stage| Cell::number(stage.get(), 2)));
        table.push(cells);
    }
    table
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
        let row: TtftRow = serde_json::from_str(
            r#"{"policy": "full", "context_tokens": 9, "ttft_ms_p50": 10.0,
                "stages": {"recompute_ms": 7.0, "first_decode_ms": null}}"#,
        )
        .unwrap();
        assert_eq!(parts(&row), [0.0, 0.0, 0.0, 0.0, 0.0, 7.0, 0.0, 3.0]);
    }
}
