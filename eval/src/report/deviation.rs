//! Which tokens of one prompt deviate in which layer, and which of them each policy recomputes.

use std::collections::HashSet;
use std::ops::Range;

use super::chart::axis::short;
use super::chart::heat::{Heat, Shading, Strip};
use super::document::{Block, Cell, Figure, Key, Panel, Section, Table, Width};
use super::evidence::Evidence;
use super::mode::ModeName;
use super::run::{Content, Run};
use crate::quality::heat_map::HeatMap;

/// Most tokens drawn: of longer prompts, the chunks that deviate most.
const MAX_TOKENS: usize = 600;
/// Of a policy's ratios, the nearest to this is drawn.
const TYPICAL_RATIO: f64 = 0.15;

const INTRODUCTION: &str = "The context of one prompt, token by token, in reading order; chunk \
    borders are black lines. The darker a cell, the further the stored K and V of that token lie \
    from those of a full prefill at that layer (relative squared distance, logarithmic scale; \
    light is better; white means no value). Below the layers, one strip per policy marks the tokens \
    it recomputed: the marks of a good policy are under the dark columns.";

/// A mode's selection on the heat map's prompt.
struct Selection<'a> {
    mode: ModeName,
    positions: &'a [usize],
}

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let mut blocks = Vec::new();
    for run in evidence.runs {
        if let Content::Quality(quality, _) = &run.content
            && let Some(heatmap) = &quality.heatmap
        {
            blocks.extend(map_blocks(evidence, run, heatmap));
        }
    }
    let name = ["deviation", "Deviation of stored KV in one prompt"];
    let nothing = "No quality run with a deviation map was given.";
    Section::new(name, INTRODUCTION, nothing, blocks)
}

fn map_blocks(evidence: &Evidence<'_>, run: &Run, heatmap: &HeatMap) -> Vec<Block> {
    let (dataset, id) = (&heatmap.dataset, &heatmap.id);
    let title = format!("{dataset}, question {id}, run {}", run.name);
    let mut blocks = vec![Block::Heading(title)];
    if !heatmap.question.is_empty() {
        blocks.push(Block::Text(format!("Question: {}", heatmap.question)));
    }
    let values = heatmap.layers.iter().flatten();
    let values = values.filter_map(|value| value.map(f64::from));
    let Some(shading) = Shading::new(values) else {
        let sentence = "Its deviation is zero or was not measured, so there is nothing to draw.";
        blocks.push(Block::Text(sentence.to_owned()));
        return blocks;
    };
    let selections = selections(evidence, heatmap);
    let shown = shown_chunks(heatmap);
    let n_shown: usize = shown.iter().map(|(_, range)| range.len()).sum();
    if heatmap.rows.len() > MAX_TOKENS {
        blocks.push(Block::Text(format!(
            "{n_shown} of {} context tokens are drawn: the chunks that deviate most, the weakest \
             of them cut short.",
            heatmap.rows.len()
        )));
    }
    let strip = |of: &Selection<'_>| Strip {
        name: of.mode.to_string(),
        style: evidence.palette.style(&of.mode.policy),
        positions: of.positions.iter().copied().collect(),
    };
    let heat = Heat {
        map: heatmap,
        chunks: shown,
        strips: selections.iter().map(strip).collect(),
    };
    let key = Key::new(shading.legend(), "relative squared deviation of K and V");
    blocks.push(
        Figure {
            legend: vec![key],
            panels: heat.svgs(shading).into_iter().map(Panel::new).collect(),
            width: Width::Wide,
            ..Figure::default()
        }
        .block(),
    );
    blocks.extend(table(heatmap, &selections).block());
    blocks
}

/// One selection per policy, at the ratio nearest to the typical one.
fn selections<'a>(evidence: &Evidence<'_>, heatmap: &'a HeatMap) -> Vec<Selection<'a>> {
    let selection = |(spec, positions): (&String, &'a Vec<usize>)| Selection {
        mode: ModeName::parse(spec),
        positions,
    };
    let mut all: Vec<Selection<'a>> = heatmap.selected.iter().map(selection).collect();
    let distance = |mode: &ModeName| {
        mode.ratio
            .map_or(0.0, |ratio| (ratio - TYPICAL_RATIO).abs())
    };
    all.sort_by(|one, other| {
        let of_policy =
            |of: &Selection<'_>| (evidence.palette.rank(&of.mode).0, of.mode.policy.clone());
        let by_distance = distance(&one.mode).total_cmp(&distance(&other.mode));
        of_policy(one).cmp(&of_policy(other)).then(by_distance)
    });
    all.dedup_by(|later, earlier| later.mode.policy == earlier.mode.policy);
    all
}

/// The chunks to draw, in prompt order, with names; without any, the whole context.
fn shown_chunks(heatmap: &HeatMap) -> Vec<(String, Range<usize>)> {
    let named = heatmap.chunks.iter().enumerate();
    let mut chunks: Vec<(String, Range<usize>)> = named
        .map(|(n, &(start, end))| (format!("chunk {}", n + 1), start..end))
        .filter(|(_, range)| !range.is_empty())
        .collect();
    if chunks.is_empty() {
        chunks.push(("context".to_owned(), 0..heatmap.rows.len()));
    }
    let strength = |range: &Range<usize>| {
        let values = heatmap
            .layers
            .iter()
            .flat_map(|layer| &layer[range.clone()]);
        values.flatten().copied().map(f64::from).sum::<f64>() / range.len() as f64
    };
    chunks.sort_by(|one, other| strength(&other.1).total_cmp(&strength(&one.1)));
    let mut left = MAX_TOKENS;
    for (_, range) in &mut chunks {
        range.end = range.end.min(range.start + left);
        left -= range.len();
    }
    chunks.retain(|(_, range)| !range.is_empty());
    chunks.sort_by_key(|(_, range)| range.start);
    chunks
}

fn table(heatmap: &HeatMap, selections: &[Selection<'_>]) -> Table {
    let caption = "What each selection covers of this prompt's deviation, summed over layers; \
                   higher is better";
    let positions = |of: &Selection<'_>| of.positions.iter().copied().collect::<HashSet<usize>>();
    let count = move |of: &Selection<'_>| {
        let positions = positions(of);
        let rows = heatmap.rows.iter().filter(|row| positions.contains(row));
        rows.count()
    };
    Table::of(caption, selections)
        .column("mode", |of| Cell::code(&of.mode))
        .column("tokens recomputed", move |of| Cell::text(count(of)))
        .column("share of tokens, %", move |of| {
            let share = count(of) as f64 / heatmap.rows.len().max(1) as f64;
            Cell::text(short(share * 100.0))
        })
        .column("deviation covered, %", move |of| {
            Cell::percent(covered(heatmap, &positions(of)))
        })
        .table()
}

/// The share of all layers' deviation that the positions hold. Layers count by their
/// deviation: in the first ones it is all rounding, and which tokens have it means nothing.
fn covered(heatmap: &HeatMap, positions: &HashSet<usize>) -> Option<f64> {
    let (mut all, mut held) = (0.0, 0.0);
    for layer in &heatmap.layers {
        for (row, value) in heatmap.rows.iter().zip(layer) {
            let value = f64::from(value.unwrap_or(0.0));
            all += value;
            held += if positions.contains(row) { value } else { 0.0 };
        }
    }
    (all > 0.0).then(|| held / all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heatmap(n: usize) -> HeatMap {
        let layer = vec![1.0; n];
        serde_json::from_value(serde_json::json!({
            "dataset": "d", "id": "7", "tokens": vec!["t"; n], "rows": (0..n).collect::<Vec<_>>(),
            "layers": [layer], "chunks": [[0, n / 2], [n / 2, n]],
            "selected": {"hkvd@2:0.1": [0, 1], "hkvd@2:0.15": [0], "random:0.15": [3], "all": [0]},
        }))
        .unwrap()
    }

    #[test]
    fn one_selection_per_policy_at_the_typical_ratio() {
        let evidence = Evidence::new(&[]);
        let map = heatmap(4);
        let selections = selections(&evidence, &map);
        let names: Vec<String> = selections.iter().map(|s| s.mode.to_string()).collect();
        assert_eq!(names, ["all", "hkvd@2:0.15", "random:0.15"]);
    }

    #[test]
    fn long_prompts_show_the_chunks_that_deviate_most() {
        let mut map = heatmap(1000);
        map.layers[0][..500].fill(Some(0.5));
        let shown = shown_chunks(&map);
        assert_eq!(
            shown,
            [
                ("chunk 1".to_owned(), 0..100),
                ("chunk 2".to_owned(), 500..1000)
            ]
        );
    }

    #[test]
    fn covered_deviation_is_a_share_of_all() {
        let map = heatmap(4);
        assert_eq!(covered(&map, &HashSet::from([0])), Some(0.25));
    }
}
