//! The tables of quality: scores by policy and ratio, fidelity, the questions full prefill gets
//! right, and kinds of question.

use std::collections::BTreeSet;

use super::chart::axis::{short, small};
use super::document::{Block, Cell, DASH, Section, Table};
use super::evidence::{Evidence, Scope};
use super::metric::{ANSWERS, KL, Metric, TOP1};
use super::record::{Measure, QualityRow, Score};

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let scopes = evidence.scopes();
    let mut blocks = vec![Block::Text(match scopes.is_empty() {
        true => evidence.lack_of_quality().to_owned(),
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

const INTRODUCTION: &str = "Rows are policies, columns ratios, shares of the context tokens that are not \
    exact; in brackets 95 % intervals. Modes without a ratio (full prefill, plain reuse) stand in a column \
    of their own. A dash means not measured.";

fn tables(scope: &Scope<'_>) -> Vec<Block> {
    let answers = ANSWERS
        .iter()
        .filter(|metric| metric.is_measured(scope))
        .map(|metric| by_ratio(scope, &caption(scope, metric), |row| Some(metric.cell(row))));
    let mut tables: Vec<Table> = answers.collect();
    // The first is what answers are right by; the others say much the same.
    for table in tables.iter_mut().skip(1) {
        table.folded = true;
    }
    tables.push(against_full(scope));
    tables.push(where_full_is_right(scope));
    tables.push(fidelity(scope));
    tables.push(by_type(scope));
    let measured = tables.into_iter().filter(has_value);
    measured.filter_map(Table::block).collect()
}

/// Whether some cell holds more than a dash.
fn has_value(table: &Table) -> bool {
    let mut values = table.rows.iter().flat_map(|row| &row[table.names..]);
    values.any(Cell::is_known)
}

fn caption(scope: &Scope<'_>, metric: &Metric) -> String {
    let mut label = metric.label();
    if let Some(first) = label.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    format!(
        "{label}; {} questions",
        count(scope.rows.iter().map(|row| row.n))
    )
}

/// "1200", or "1100 to 1200" where rows differ.
fn count(counts: impl Iterator<Item = usize>) -> String {
    let counts: BTreeSet<usize> = counts.collect();
    match (counts.first(), counts.last()) {
        (Some(least), Some(most)) if least == most => most.to_string(),
        (Some(least), Some(most)) => format!("{least} to {most}"),
        _ => "no".to_owned(),
    }
}

/// A row per policy, a column per ratio.
fn by_ratio(scope: &Scope<'_>, caption: &str, cell: impl Fn(&QualityRow) -> Option<Cell>) -> Table {
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
            Some(row) => cell(row).unwrap_or_else(|| Cell::text(DASH)),
            None => Cell::text(""),
        };
        let mut cells = vec![Cell::code(policy)];
        cells.extend(ratios.iter().map(value));
        table.push(cells);
    }
    table
}

fn against_full(scope: &Scope<'_>) -> Table {
    let caption = "Difference to full prefill on the same questions, points";
    by_ratio(scope, caption, |row| {
        let points = |share: f64| format!("{:+.1}", share * 100.0);
        let difference = row.vs_full.get();
        Some(Cell::with_interval(
            difference,
            row.vs_full_ci.get(),
            points,
        ))
    })
}

/// The name of what a dataset's answers are scored by.
fn score_name(scope: &Scope<'_>) -> &'static str {
    let measured = ANSWERS.iter().find(|metric| metric.is_measured(scope));
    measured.map_or("score", |metric| metric.name)
}

fn where_full_is_right(scope: &Scope<'_>) -> Table {
    let scores = scope.rows.iter();
    let scores = scores.filter_map(|row| row.where_full_is_right.as_ref());
    let caption = format!(
        "Of the {} questions that full prefill answers right: {}, %",
        count(scores.map(|score| score.n)),
        score_name(scope)
    );
    let cell = |row: &QualityRow| row.where_full_is_right.as_ref().map(score_cell);
    by_ratio(scope, &caption, cell)
}

fn percent_text(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}

fn score_cell(score: &Score) -> Cell {
    Cell::with_interval(
        score.exact_match.get(),
        score.exact_match_ci.get(),
        percent_text,
    )
}

/// How near the model's state is to that of full prefill.
fn fidelity(scope: &Scope<'_>) -> Table {
    let header = [
        "mode",
        "n",
        "KL, nats",
        "top-1 agreement, %",
        "attention deviation, mean of layers",
        "last layer",
        "recomputed, %",
        "computed, %",
        "deviation left, %",
    ];
    let caption = "Fidelity to full prefill: divergence and deviations, lower is better; \
                   agreement, higher is better";
    let mut table = Table::new(caption, &header, 1);
    for row in &scope.rows {
        let layers = row.attention_deviation.as_deref().unwrap_or_default();
        let small_cell =
            |value: Option<f64>| Cell::text(value.map_or_else(|| DASH.to_owned(), small));
        let last = layers.last().and_then(|layer| layer.get());
        let known = [
            KL.value(row),
            TOP1.value(row),
            mean(layers),
            row.recomputed_share.get(),
        ];
        if known.iter().all(Option::is_none) {
            continue;
        }
        table.push(vec![
            Cell::code(row.mode().to_string()),
            Cell::text(row.n.to_string()),
            Cell::with_interval(KL.value(row), KL.interval(row), small),
            TOP1.cell(row),
            small_cell(mean(layers)),
            small_cell(last),
            Cell::percent(row.recomputed_share.get()),
            Cell::percent(row.computed_share.get()),
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
    let score = |row: &QualityRow, kind: &str| row.by_type.as_ref()?.get(kind).copied();
    let title = |kind: &&str| {
        let scores = scope.rows.iter().filter_map(|row| score(row, kind));
        Cell::text(format!("{kind} (n {})", count(scores.map(|score| score.n))))
    };
    let mut table = Table::new(
        format!("By kind of question: {}, %", score_name(scope)),
        &["mode"],
        1,
    );
    table.header.extend(kinds.iter().map(title));
    for row in scope.rows.iter().filter(|_| !kinds.is_empty()) {
        let cell = |kind: &&str| {
            score(row, kind).map_or_else(|| Cell::text(DASH), |score| score_cell(&score))
        };
        let mut cells = vec![Cell::code(row.mode().to_string())];
        cells.extend(kinds.iter().map(cell));
        table.push(cells);
    }
    table
}
