//! Which tokens of one prompt deviate in which layer, and which of them each policy recomputes.

use std::collections::HashSet;

use super::chart::axis::short;
use super::chart::heat::{Heat, Shading, Strip};
use super::document::{Block, Cell, Figure, Key, Panel, Section, Table, Width};
use super::evidence::Evidence;
use super::mode::ModeName;
use super::run::{Content, Run};
use crate::quality::heat_map::HeatMap;

/// Tokens drawn; of longer prompts, the chunks that deviate most.
const MAX_TOKENS: usize = 600;
/// Which of a policy's ratios is drawn where the policies share several: the nearest to this.
const TYPICAL_RATIO: f64 = 0.15;

const INTRODUCTION: &str = "The context of one prompt, token by token, in reading order; chunk \
    borders are black lines. The darker a cell, the further the stored K and V of that token lie \
    from those of a full prefill at that layer (relative squared distance, logarithmic scale; \
    light is better; white means no value). Below each line of text, one strip per policy marks \
    the tokens it recomputed: a good policy's marks stand under the dark columns.";

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
    let n_shown: usize = shown.iter().map(|(_, (from, to))| to - from).sum();
    if heatmap.rows.len() > MAX_TOKENS {
        blocks.push(Block::Text(format!(
            "{n_shown} of {} context tokens are drawn: the chunks that deviate most, the weakest \
             of them cut short.",
            heatmap.rows.len()
        )));
    }
    let heat = heat(evidence, heatmap, &shown, &selections);
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

/// One selection per policy, at the ratio that most policies have.
fn selections<'a>(evidence: &Evidence<'_>, heatmap: &'a HeatMap) -> Vec<Selection<'a>> {
    let selection = |(spec, positions): (&String, &'a Vec<usize>)| Selection {
        mode: ModeName::parse(spec),
        positions,
    };
    let mut all: Vec<Selection<'a>> = heatmap.selected.iter().map(selection).collect();
    let usual = usual_ratio(&all);
    let distance = |mode: &ModeName| mode.ratio.map_or(0.0, |ratio| (ratio - usual).abs());
    all.sort_by(|one, other| {
        let of_policy = |selection: &Selection<'_>| evidence.palette.rank(&selection.mode).0;
        of_policy(one)
            .cmp(&of_policy(other))
            .then_with(|| one.mode.policy.cmp(&other.mode.policy))
            .then_with(|| distance(&one.mode).total_cmp(&distance(&other.mode)))
    });
    all.dedup_by(|later, earlier| later.mode.policy == earlier.mode.policy);
    all
}

fn usual_ratio(selections: &[Selection<'_>]) -> f64 {
    let ratios = || selections.iter().filter_map(|of| of.mode.ratio);
    let count = |ratio: f64| ratios().filter(|&other| other == ratio).count();
    let usual = ratios().max_by(|&one, &other| {
        let nearness = |ratio: f64| -(ratio - TYPICAL_RATIO).abs();
        count(one)
            .cmp(&count(other))
            .then_with(|| nearness(one).total_cmp(&nearness(other)))
    });
    usual.unwrap_or(TYPICAL_RATIO)
}

/// The chunks to draw, in prompt order, with names; rows outside any chunk count as one.
fn shown_chunks(heatmap: &HeatMap) -> Vec<(String, (usize, usize))> {
    let whole = (0, heatmap.rows.len());
    let named = heatmap.chunks.iter().enumerate();
    let mut chunks: Vec<(String, (usize, usize))> = named
        .map(|(n, &range)| (format!("chunk {}", n + 1), range))
        .filter(|(_, (start, end))| start < end)
        .collect();
    if chunks.is_empty() {
        chunks.push(("context".to_owned(), whole));
    }
    if heatmap.rows.len() <= MAX_TOKENS {
        return chunks;
    }
    let strength = |range: (usize, usize)| {
        let of_layer = |layer: &Vec<_>| layer_mass(&layer[range.0..range.1]);
        heatmap.layers.iter().map(of_layer).sum::<f64>() / (range.1 - range.0) as f64
    };
    let mut order = chunks;
    order.sort_by(|one, other| strength(other.1).total_cmp(&strength(one.1)));
    let mut left = MAX_TOKENS;
    for (_, (start, end)) in &mut order {
        *end = (*end).min(*start + left);
        left -= *end - *start;
    }
    order.retain(|(_, (start, end))| start < end);
    order.sort_by_key(|(_, range)| range.0);
    order
}

fn layer_mass(values: &[Option<f32>]) -> f64 {
    values.iter().flatten().copied().map(f64::from).sum()
}

fn heat<'a>(
    evidence: &Evidence<'_>,
    heatmap: &'a HeatMap,
    shown: &[(String, (usize, usize))],
    selections: &[Selection<'_>],
) -> Heat<'a> {
    let indices: Vec<usize> = match heatmap.rows.len() <= MAX_TOKENS {
        true => (0..heatmap.rows.len()).collect(),
        false => shown
            .iter()
            .flat_map(|(_, (from, to))| *from..*to)
            .collect(),
    };
    let place = |index: usize| indices.partition_point(|&other| other < index);
    let chunks = shown
        .iter()
        .map(|(name, (from, to))| (name.clone(), [place(*from), place(*to)]));
    let strip = |selection: &Selection<'_>| Strip {
        name: selection.mode.to_string(),
        style: evidence.palette.style(&selection.mode.policy),
        positions: selection.positions.iter().copied().collect(),
    };
    Heat {
        tokens: indices
            .iter()
            .map(|&index| heatmap.tokens[index].as_str())
            .collect(),
        rows: indices.iter().map(|&index| heatmap.rows[index]).collect(),
        layers: heatmap
            .layers
            .iter()
            .map(|layer| {
                indices
                    .iter()
                    .map(|&index| layer[index].map(f64::from))
                    .collect()
            })
            .collect(),
        chunks: chunks.collect(),
        strips: selections.iter().map(strip).collect(),
    }
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
    fn one_selection_per_policy_at_the_shared_ratio() {
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
                ("chunk 1".to_owned(), (0, 100)),
                ("chunk 2".to_owned(), (500, 1000))
            ]
        );
    }

    #[test]
    fn covered_deviation_is_a_share_of_all() {
        let map = heatmap(4);
        assert_eq!(covered(&map, &HashSet::from([0])), Some(0.25));
    }
}
