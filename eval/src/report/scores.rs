//! The tables of quality: scores by policy and ratio, fidelity, the questions full prefill gets
//! right, and kinds of question.

use std::collections::BTreeSet;

use super::chart::axis::{short, small};
use super::document::{Block, Cell, DASH, Section, Table};
use super::evidence::{Evidence, Scope};
use super::metric::{ANSWERS, KL, Metric, TOP1};
use super::mode::OfMode;
use crate::quality::row::Row;

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let (blocks, nothing) = evidence.of_scopes(tables);
    Section::new(["scores", "Scores"], INTRODUCTION, nothing, blocks)
}

const INTRODUCTION: &str = "Rows are policies, columns ratios, shares of the context tokens that are not \
    exact; in brackets 95 % intervals. Modes without a ratio (full prefill, plain reuse) have a column \
    of their own. A dash means not measured.";

fn tables(scope: &Scope<'_>) -> Vec<Block> {
    let answers = ANSWERS
        .iter()
        .filter(|metric| metric.is_measured(scope))
        .map(|metric| by_ratio(scope, &caption(scope, metric), |row| Some(metric.cell(row))));
    let mut tables: Vec<Table> = answers.collect();
    // The first is the main score; the others say much the same.
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
    let n = count(scope.rows.iter().map(|row| row.n));
    format!("{}, {}; {n} questions", metric.title(), metric.unit())
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
fn by_ratio(scope: &Scope<'_>, caption: &str, cell: impl Fn(&Row) -> Option<Cell>) -> Table {
    let mut policies: Vec<&str> = scope.rows.iter().map(|row| row.policy.as_str()).collect();
    policies.dedup();
    let title = |ratio: &Option<f64>| match ratio {
        Some(ratio) => format!("{} %", short(ratio * 100.0)),
        None => "no ratio".to_owned(),
    };
    Table::of(caption, &policies)
        .column("policy", Cell::code)
        .columns(scope.columns(), title, |&ratio, policy| {
            match scope.row(policy, ratio) {
                Some(row) => cell(row).unwrap_or_else(|| Cell::text(DASH)),
                None => Cell::text(""),
            }
        })
        .table()
}

fn against_full(scope: &Scope<'_>) -> Table {
    let caption = "Difference to full prefill on the same questions, points";
    let points = |share: f64| format!("{:+.1}", share * 100.0);
    by_ratio(scope, caption, |row| {
        Some(Cell::with_interval(row.vs_full, row.vs_full_ci.0, points))
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
    let percent = |share: f64| format!("{:.1}", share * 100.0);
    by_ratio(scope, &caption, |row| {
        let score = row.where_full_is_right.as_ref()?;
        Some(Cell::with_interval(
            score.exact_match,
            score.exact_match_ci.0,
            percent,
        ))
    })
}

/// How near the model's state is to that of full prefill.
fn fidelity(scope: &Scope<'_>) -> Table {
    let is_known = |row: &&Row| {
        let layers = mean(&row.attention_deviation);
        let figures = [KL.value(row), TOP1.value(row), layers, row.recomputed_share];
        figures.iter().any(Option::is_some)
    };
    let caption = "Fidelity to full prefill: divergence and deviations, lower is better; \
                   agreement, higher is better";
    Table::of(caption, scope.rows.iter().copied().filter(is_known))
        .column("mode", |row| Cell::code(row.mode()))
        .column("n", |row| Cell::text(row.n))
        .column("KL, nats", |row| {
            Cell::with_interval(KL.value(row), KL.interval(row), small)
        })
        .column("top-1 agreement, %", |row| TOP1.cell(row))
        .column("attention deviation, mean of layers", |row| {
            Cell::value(mean(&row.attention_deviation), small)
        })
        .column("last layer", |row| {
            let last = row.attention_deviation.last();
            Cell::value(last.copied().flatten(), small)
        })
        .column("recomputed, %", |row| Cell::percent(row.recomputed_share))
        .column("computed, %", |row| Cell::percent(row.computed_share))
        .column("deviation left, %", |row| Cell::percent(row.deviation_left))
        .table()
}

fn mean(values: &[Option<f64>]) -> Option<f64> {
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    crate::metric::mean(&known)
}

fn by_type(scope: &Scope<'_>) -> Table {
    let kinds = scope.rows.iter().flat_map(|row| row.by_type.keys());
    let kinds: BTreeSet<&String> = kinds.collect();
    let rows = scope.rows.iter().filter(|_| !kinds.is_empty());
    let caption = format!("By kind of question: {}, %", score_name(scope));
    let title = |kind: &&String| {
        let scores = scope.rows.iter().filter_map(|row| row.by_type.get(*kind));
        format!("{kind} (n {})", count(scores.map(|score| score.n)))
    };
    Table::of(caption, rows.copied())
        .column("mode", |row| Cell::code(row.mode()))
        .columns(kinds.iter().copied(), title, |kind, row| {
            let score = row.by_type.get(*kind);
            Cell::percent(score.and_then(|score| score.exact_match))
        })
        .table()
}
