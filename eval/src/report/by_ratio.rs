//! Quality against the ratio, the share of the tokens that are not exact: a row of panels per group of policies.

use super::chart::axis::Axis;
use super::chart::plot::{Band, Join, Line, Markers, Plot, Point};
use super::chart::style::Style;
use super::document::{Block, Cell, Figure, Panel, Section, Table};
use super::evidence::{Evidence, Scope};
use super::metric::{EXACT_MATCH, KL, Metric, TOP1, headline};
use super::palette::{Group, Palette};
use super::record::QualityRow;

/// A policy within so many points of full prefill keeps its quality.
const TOLERANCE_POINTS: f64 = 1.0;

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let scopes = evidence.scopes();
    let mut blocks = vec![Block::Text(match scopes.is_empty() {
        true => evidence.lack_of_quality().to_owned(),
        false => INTRODUCTION.to_owned(),
    })];
    for scope in &scopes {
        blocks.push(Block::Heading(scope.label.clone()));
        blocks.extend(scope.notes());
        blocks.extend(figures(evidence, scope));
        blocks.extend(smallest(scope).block());
    }
    Section {
        id: "by-ratio",
        title: "Quality against ratio",
        blocks,
    }
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
        Figure {
            panels: Panel::of_plots(plots),
            legend: evidence.policy_keys(&group.policies),
            title: group.title,
            ..Figure::default()
        }
        .block()
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
        style,
        points: points(scope, metric, policy),
        join: Join::Straight,
        markers,
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
    Some(Plot {
        title: capitalised(metric.name),
        x: ratio_axis(scope)?,
        y: metric.axis(scope, unit(metric))?,
        bands: bands(evidence, scope, metric),
        lines: baseline.into_iter().chain(own).collect(),
    })
}

fn unit(metric: &Metric) -> &'static str {
    match metric.scale {
        super::metric::Scale::Percent => "%",
        super::metric::Scale::Log => "nats (log scale)",
    }
}

/// Logarithmic, because what small budgets achieve is the question; linear if 0 is among them.
fn ratio_axis(scope: &Scope<'_>) -> Option<Axis> {
    let percents = scope.ratios().into_iter().map(|ratio| ratio * 100.0);
    let percents: Vec<f64> = percents.collect();
    match percents.iter().all(|&percent| percent > 0.0) {
        true => Axis::log_at("ratio, % of tokens not exact (log scale)", percents),
        false => Axis::linear("ratio, % of tokens not exact", percents, [0.0, 100.0]),
    }
}

fn points(scope: &Scope<'_>, metric: &Metric, policy: &str) -> Vec<Point> {
    let rows = scope.rows.iter().filter(|row| row.policy == policy);
    let point = |row: &&QualityRow| {
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
    let band = |row: &&QualityRow| {
        Some(Band {
            name: row.policy.clone(),
            style: evidence.palette.style(&row.policy),
            value: metric.value(row)?,
            interval: metric.interval(row),
        })
    };
    rows.filter_map(band).collect()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase());
    first.into_iter().flatten().chain(letters).collect()
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
         prefill's {} ({} %); best over all ratios beside it",
        metric.name,
        full.map_or_else(|| "not measured".to_owned(), |full| metric.text(full)),
    );
    let mut table = Table::new(
        caption,
        &[
            "policy",
            "smallest ratio, %",
            "there, %",
            "best, %",
            "best at ratio, %",
        ],
        1,
    );
    let Some(full) = full else {
        return table;
    };
    for policy in scope.chosen_policies() {
        table.push(smallest_of(scope, &metric, policy, full));
    }
    table
}

fn smallest_of(scope: &Scope<'_>, metric: &Metric, policy: &str, full: f64) -> Vec<Cell> {
    let rows = scope.rows.iter().filter(|row| row.policy == policy);
    let values: Vec<(f64, f64)> = rows
        .filter_map(|row| Some((row.mode().ratio?, metric.value(row)?)))
        .collect();
    let kept = values
        .iter()
        .rev()
        .take_while(|(_, value)| *value >= full - TOLERANCE_POINTS - 1e-9)
        .last();
    let best = values
        .iter()
        .rev()
        .max_by(|one, other| one.1.total_cmp(&other.1));
    let percent = |place: Option<&(f64, f64)>| match place {
        Some((ratio, _)) => Cell::text(super::chart::axis::short(ratio * 100.0)),
        None => Cell::text("none"),
    };
    let value = |place: Option<&(f64, f64)>| Cell::number(place.map(|(_, value)| *value), 1);
    vec![
        Cell::code(policy),
        percent(kept),
        value(kept),
        value(best),
        percent(best),
    ]
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
