//! The tables of quality: scores by policy and ratio, fidelity, the questions full prefill gets
//! right, and kinds of question.

use std::collections::BTreeSet;

use super::chart::axis::short;
use super::document::{Block, Cell, Section, Table};
use super::evidence::{Evidence, Scope};
use super::metric::{ANSWERS, KL, Metric, TOP1};
use super::record::{Measure, QualityRow, Score};

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let scopes = evidence.scopes();
    let mut blocks = vec![Block::Text(match scopes.is_empty() {
        true => "No quality run was given, so there are no scores.".to_owned(),
        false => INTRODUCTION.to_owned(),
    })];
    for scope in &scopes {
        blocks.push(Block::Heading(scope.label.clone()));
        blocks.extend(scope.notes());
        blocks.extend(tables(scope));
    }
    Section {
        id: "scores",
        title: "Scores",
        blocks,
    }
}

const INTRODUCTION: &str = "Rows are policies, columns the share of context tokens recomputed; in \
    brackets 95 % intervals. Modes without a ratio (full prefill, plain reuse) stand in a column of \
    their own. A dash means not measured.";

fn tables(scope: &Scope<'_>) -> Vec<Block> {
    let answers = ANSWERS
        .iter()
        .filter(|metric| metric.is_measured(scope))
        .map(|metric| by_ratio(scope, &caption(scope, metric), |row| Some(metric.cell(row))));
    let mut tables: Vec<Table> = answers.collect();
    tables.push(by_ratio(
        scope,
        "Exact match, %, on the questions that full prefill answers right; their number after a \
         slash",
        |row| row.where_full_is_right.as_ref().map(score_with_count),
    ));
    tables.push(fidelity(scope));
    tables.push(by_type(scope));
    let measured = tables.into_iter().filter(has_value);
    measured.filter_map(Table::block).collect()
}

/// Whether some cell holds more than a dash.
fn has_value(table: &Table) -> bool {
    let mut values = table.rows.iter().flat_map(|row| &row[table.names..]);
    values.any(|cell| !matches!(cell, Cell::Text(text) if text.is_empty() || text == "–"))
}

fn caption(scope: &Scope<'_>, metric: &Metric) -> String {
    let counts: BTreeSet<usize> = scope.rows.iter().map(|row| row.n).collect();
    let questions = match (counts.first(), counts.last()) {
        (Some(least), Some(most)) if least == most => format!("{most} questions"),
        (Some(least), Some(most)) => format!("{least} to {most} questions"),
        _ => "no questions".to_owned(),
    };
    let mut label = metric.label();
    if let Some(first) = label.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    format!("{label}, {questions}")
}

/// A row per policy, a column per ratio.
fn by_ratio(
    scope: &Scope<'_>,
    caption: &str,
    cell: impl Fn(&QualityRow) -> Option<Cell>,
) -> Table {
    let ratios: Vec<Option<f64>> = scope.columns();
    let title = |ratio: &Option<f64>| match ratio {
        Some(ratio) => format!("{} %", short(ratio * 100.0)),
        None => "no ratio".to_owned(),
    };
    let header: Vec<String> = ["policy".to_owned()]
        .into_iter()
        .chain(ratios.iter().map(title))
        .collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new(caption, &header, 1);
    let mut policies: Vec<&str> = scope.rows.iter().map(|row| row.policy.as_str()).collect();
    policies.dedup();
    for policy in policies {
        let value = |ratio: &Option<f64>| match scope.row(policy, *ratio) {
            Some(row) => cell(row).unwrap_or_else(|| Cell::text("–")),
            None => Cell::text(""),
        };
        let mut cells = vec![Cell::code(policy)];
        cells.extend(ratios.iter().map(value));
        table.push(cells);
    }
    table
}

fn percent_text(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}

fn score_with_count(score: &Score) -> Cell {
    let value = Cell::with_interval(
        score.exact_match.get(),
        score.exact_match_ci.get(),
        percent_text,
    );
    match value {
        Cell::Text(text) if text != "–" => Cell::Text(format!("{text} / {}", score.n)),
        other => other,
    }
}

/// How near the model's state is to that of full prefill.
fn fidelity(scope: &Scope<'_>) -> Table {
    let header = [
        "mode", "n", "KL, nats", "top-1 agreement, %", "attention deviation, mean of layers",
        "last layer", "recomputed, %", "deviation left, %",
    ];
    let caption = "Fidelity to full prefill: divergence and deviations, lower is better; agreement, \
                   higher is better";
    let mut table = Table::new(caption, &header, 1);
    for row in &scope.rows {
        let layers = row.attention_deviation.as_deref().unwrap_or_default();
        let scientific = |value: Option<f64>| {
            Cell::text(value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2e}")))
        };
        let last = layers.last().and_then(|layer| layer.get());
        let known = [KL.value(row), TOP1.value(row), mean(layers), row.recomputed_share.get()];
        if known.iter().all(Option::is_none) {
            continue;
        }
        table.push(vec![
            Cell::code(row.mode().to_string()),
            Cell::text(row.n.to_string()),
            Cell::with_interval(KL.value(row), KL.interval(row), |value| format!("{value:.2e}")),
            TOP1.cell(row),
            scientific(mean(layers)),
            scientific(last),
            Cell::percent(row.recomputed_share.get()),
            Cell::percent(row.deviation_left.get()),
        ]);
    }
    table
}

fn mean(values: &[Measure]) -> Option<f64> {
    let known: Vec<f64> = values.iter().filter_map(|value| value.get()).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

fn by_type(scope: &Scope<'_>) -> Table {
    let kinds = scope.rows.iter().filter_map(|row| row.by_type.as_ref());
    let kinds: BTreeSet<&str> = kinds
        .flat_map(|scores| scores.keys().map(String::as_str))
        .collect();
    let header: Vec<&str> = ["mode"].into_iter().chain(kinds.iter().copied()).collect();
    let caption = "Exact match, %, by kind of question; the number of questions after a slash";
    let mut table = Table::new(caption, &header, 1);
    for row in scope.rows.iter().filter(|_| !kinds.is_empty()) {
        let score = |kind: &&str| {
            let score = row.by_type.as_ref().and_then(|scores| scores.get(*kind));
            score.map_or_else(|| Cell::text("–"), score_with_count)
        };
        let mut cells = vec![Cell::code(row.mode().to_string())];
        cells.extend(kinds.iter().map(score));
        table.push(cells);
    }
    table
}
