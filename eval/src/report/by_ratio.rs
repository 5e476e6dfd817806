//! Quality against the ratio, a share of the tokens that are not exact: a row of panels per group of
//! policies.

use super::chart::axis::{Axis, short};
use super::chart::plot::{Band, Line, Markers, Plot, Point};
use super::chart::style::Style;
use super::document::{Block, Cell, Figure, Section, Table};
use super::evidence::{Evidence, Scope};
use super::metric::{EXACT_MATCH, KL, Metric, TOP1, headline};
use super::mode::OfMode;
use super::palette::{Group, Palette};
use crate::quality::row::Row;

/// A policy within so many points of full prefill keeps its quality.
const TOLERANCE_POINTS: f64 = 1.0;

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let (blocks, nothing) = evidence.of_scopes(|scope| {
        let table = smallest(scope).block();
        figures(evidence, scope).into_iter().chain(table).collect()
    });
    let name = ["by-ratio", "Quality against ratio"];
    Section::new(name, INTRODUCTION, nothing, blocks)
}

const INTRODUCTION: &str = "What the model answers when a policy recomputes only a share, the \
    ratio, of the context tokens that are not exact; of all context tokens it is less, because the \
    first chunk is exact. Bars are 95 % intervals. Horizontal lines, with their intervals as bands: \
    full prefill, and plain reuse of stored KV. A dotted grey line is random choice, for \
    comparison: a policy below it chooses worse than chance. Exact match and top-1 agreement are \
    in percent, higher is better; KL is the divergence of the next token's distribution from that \
    of full prefill in nats on a logarithmic axis, lower is better, and full prefill, with 0, is \
    not on that axis.";

/// The headline, KL and agreement, as far as they were measured.
fn metrics(scope: &Scope<'_>) -> Vec<Metric> {
    let first = headline(scope).unwrap_or(EXACT_MATCH);
    let mut metrics = vec![first];
    metrics.extend(
        [KL, TOP1]
            .into_iter()
            .filter(|metric| metric.name != first.name),
    );
    metrics.retain(|metric| metric.is_measured(scope));
    metrics
}

fn figures(evidence: &Evidence<'_>, scope: &Scope<'_>) -> Vec<Block> {
    let metrics = metrics(scope);
    let policies = scope.chosen_policies();
    if policies.is_empty() {
        let why = "No policy was measured at a ratio here, so there is no curve to draw.";
        return vec![Block::Text(why.to_owned())];
    }
    let figure = |group: Group| {
        let plots = metrics.iter();
        let plots = plots.map(|metric| panel(evidence, scope, metric, &group));
        let figure = Figure::of_plots(evidence.policy_keys(&group.policies), plots);
        let title = group.title.clone();
        Figure { title, ..figure }.block()
    };
    Palette::groups(&policies).into_iter().map(figure).collect()
}

fn panel(
    evidence: &Evidence<'_>,
    scope: &Scope<'_>,
    metric: &Metric,
    group: &Group,
) -> Option<Plot> {
    let line = |policy: &str, style: Style, markers: Markers| Line {
        markers,
        ..Line::new(style, points(scope, metric, policy))
    };
    let baseline = scope
        .chosen_policies()
        .into_iter()
        .find(|policy| policy.starts_with("random") && !policy.contains(['+', '~']))
        .filter(|&policy| group.policies.iter().all(|other| other != policy))
        .map(|policy| line(policy, Style::BASELINE, Markers::Hidden));
    let own = group
        .policies
        .iter()
        .map(|policy| line(policy, evidence.palette.style(policy), Markers::Shown));
    let lines = baseline.into_iter().chain(own).collect();
    let (x, y) = (ratio_axis(scope), metric.axis(scope));
    Some(Plot {
        bands: bands(evidence, scope, metric),
        ..Plot::new(metric.title(), x, y, lines)?
    })
}

/// Logarithmic, because small ratios matter most; linear if 0 is among them.
fn ratio_axis(scope: &Scope<'_>) -> Option<Axis> {
    let percents = scope.ratios().into_iter().map(|ratio| ratio * 100.0);
    let percents: Vec<f64> = percents.collect();
    match percents.iter().all(|&percent| percent > 0.0) {
        true => Axis::log("ratio, % of tokens not exact", percents),
        false => Axis::linear("ratio, % of tokens not exact", percents, [0.0, 100.0]),
    }
}

fn points(scope: &Scope<'_>, metric: &Metric, policy: &str) -> Vec<Point> {
    let rows = scope.rows.iter().filter(|row| row.policy == policy);
    let point = |row: &&Row| {
        Some(Point {
            x: row.mode().ratio? * 100.0,
            y: metric.value(row)?,
            interval: metric.interval(row),
            title: format!("{}: {}", row.mode(), metric.sentence(row)),
            hollow: false,
        })
    };
    rows.filter_map(point).collect()
}

/// The rows without a ratio: full, reuse, all.
fn bands(evidence: &Evidence<'_>, scope: &Scope<'_>, metric: &Metric) -> Vec<Band> {
    let rows = scope.rows.iter().filter(|row| row.mode().ratio.is_none());
    let band = |row: &&Row| {
        Some(Band {
            name: row.policy.clone(),
            style: evidence.palette.style(&row.policy),
            value: metric.value(row)?,
            interval: metric.interval(row),
        })
    };
    rows.filter_map(band).collect()
}

/// Per policy, the smallest ratio that keeps full prefill's quality.
fn smallest(scope: &Scope<'_>) -> Table {
    let metric = headline(scope).unwrap_or(EXACT_MATCH);
    // Agreement with full prefill is 100 % for full prefill itself.
    let full = scope
        .row("full", None)
        .and_then(|row| metric.value(row))
        .or((metric.name == TOP1.name).then_some(100.0));
    let caption = format!(
        "Smallest ratio from which on a policy stays within {TOLERANCE_POINTS} point of full \
         prefill's {} ({} %); the best over all ratios is beside it",
        metric.name,
        full.map_or_else(|| "not measured".to_owned(), |full| metric.text(full)),
    );
    let places = |policy| Some((policy, places(scope, &metric, policy, full?)));
    let rows = scope.chosen_policies().into_iter().filter_map(places);
    let rows: Vec<_> = rows.collect();
    let ratio = |place: Option<(f64, f64)>| match place {
        Some((ratio, _)) => Cell::text(short(ratio * 100.0)),
        None => Cell::text("none"),
    };
    let value = |place: Option<(f64, f64)>| Cell::number(place.map(|(_, value)| value), 1);
    Table::of(caption, &rows)
        .column("policy", |row| Cell::code(row.0))
        .column("smallest ratio, %", |row| ratio(row.1[0]))
        .column("there, %", |row| value(row.1[0]))
        .column("best, %", |row| value(row.1[1]))
        .column("best at ratio, %", |row| ratio(row.1[1]))
        .table()
}

/// The smallest ratio from which on the quality stays that of `full`, and the best ratio, each with
/// the value there.
fn places(scope: &Scope<'_>, metric: &Metric, policy: &str, full: f64) -> [Option<(f64, f64)>; 2] {
    let rows = scope.rows.iter().filter(|row| row.policy == policy);
    let values: Vec<(f64, f64)> = rows
        .filter_map(|row| Some((row.mode().ratio?, metric.value(row)?)))
        .collect();
    let descending = || values.iter().rev().copied();
    let kept = descending().take_while(|(_, value)| *value >= full - TOLERANCE_POINTS - 1e-9);
    let best = descending().max_by(|one, other| one.1.total_cmp(&other.1));
    [kept.last(), best]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::run::{Content, Run};

    /// A run of `full` at 98 % and `hkvd@2` at these ratios with these scores.
    fn run(scores: &[(f64, f64)]) -> Run {
        let full = serde_json::json!({"dataset": "d", "policy": "full", "exact_match": 0.98});
        let row = |&(ratio, exact_match): &(f64, f64)| {
            serde_json::json!({"dataset": "d", "policy": "hkvd@2", "ratio": ratio,
                "exact_match": exact_match})
        };
        let rows: Vec<_> = [full].into_iter().chain(scores.iter().map(row)).collect();
        let quality = serde_json::from_value(serde_json::json!({ "rows": rows })).unwrap();
        Run {
            name: "run".to_owned(),
            header: serde_json::from_str(r#"{"kind": "quality", "version": 1}"#).unwrap(),
            content: Content::Quality(Box::new(quality), None),
        }
    }

    fn smallest_ratio(scores: &[(f64, f64)]) -> Cell {
        let runs = [run(scores)];
        let scopes = Evidence::new(&runs).scopes();
        smallest(&scopes[0]).rows[0][1].clone()
    }

    #[test]
    fn the_smallest_ratio_is_one_from_which_quality_stays() {
        let text = Cell::text;
        assert_eq!(
            smallest_ratio(&[(0.01, 0.8), (0.05, 0.97), (0.1, 0.98)]),
            text("5")
        );
        // A lucky small ratio does not count where a larger one falls back.
        assert_eq!(
            smallest_ratio(&[(0.01, 0.97), (0.05, 0.9), (0.1, 0.98)]),
            text("10")
        );
        assert_eq!(smallest_ratio(&[(0.01, 0.97), (0.1, 0.96)]), text("none"));
    }

    #[test]
    fn a_ratio_of_zero_makes_the_axis_linear() {
        let axis_label = |scores: &[(f64, f64)]| {
            let runs = [run(scores)];
            let scopes = Evidence::new(&runs).scopes();
            ratio_axis(&scopes[0]).unwrap().label
        };
        assert!(axis_label(&[(0.1, 0.9)]).contains("log"));
        assert!(!axis_label(&[(0.0, 0.5), (0.1, 0.9)]).contains("log"));
    }
}
