//! Quality against time to first token, and which modes no other beats in both.

use super::chart::axis::Axis;
use super::chart::plot::{Join, Line, Markers, Plot, Point};
use super::chart::style::Style;
use super::document::{Block, Cell, Figure, Key, Panel, Section, Table, Width};
use super::evidence::{Evidence, Scope};
use super::metric::{Metric, headline};
use super::mode::{ModeName, OfMode};
use super::palette::{Group, Palette, can_serve};
use crate::quality::row::Row;
use crate::quality::times::TimesRow;

/// A mode with what it costs and what it answers.
#[derive(Debug, Clone)]
struct Trade<'a> {
    mode: ModeName,
    row: &'a Row,
    times: &'a TimesRow,
    ttft_ms: f64,
    quality: f64,
}

const INTRODUCTION: &str = "Each mark is a mode (a policy at a ratio): its median time to first \
    token in ms, and the quality of its answers. Up and to the left is better. Filled marks \
    joined by steps are a policy's Pareto front: no other ratio of that policy is both faster and \
    better; hollow marks are beaten by one that is. The grey steps are the front over all modes, \
    the same in each panel. Oracles are left out: they need the full prefill that they would \
    save. Times are of the same run as the answers: from the plan to the first token, with stored \
    KV in memory.";

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let (blocks, _) = evidence.of_scopes(|scope| scope_blocks(evidence, scope));
    let name = ["pareto", "Quality against time to first token"];
    let nothing =
        "No quality run with times (times.json) was given, so quality cannot be set against TTFT.";
    Section::new(name, INTRODUCTION, nothing, blocks)
}

fn scope_blocks(evidence: &Evidence<'_>, scope: &Scope<'_>) -> Vec<Block> {
    let Some(metric) = headline(scope) else {
        return Vec::new();
    };
    let trades = trades(scope, &metric);
    if trades.is_empty() {
        return Vec::new();
    }
    let figure = figure(evidence, &metric, &trades);
    let table = table(&metric, &trades).block();
    [figure].into_iter().chain(table).collect()
}

/// The modes that can serve and have both figures.
fn trades<'a>(scope: &'a Scope<'_>, metric: &Metric) -> Vec<Trade<'a>> {
    let trade = |row: &&'a Row| {
        let mode = row.mode();
        let times = scope.times.iter().find(|times| times.mode() == mode)?;
        Some(Trade {
            mode,
            row,
            times,
            ttft_ms: times.ttft_ms_p50?,
            quality: metric.value(row)?,
        })
    };
    let served = scope.rows.iter().filter(|row| can_serve(&row.policy));
    served.filter_map(trade).collect()
}

/// Whether no other trade is as fast and as good, and in one of the two better.
fn on_front(trade: &Trade<'_>, among: &[Trade<'_>]) -> bool {
    !among.iter().any(|other| {
        let no_worse = other.ttft_ms <= trade.ttft_ms && other.quality >= trade.quality;
        no_worse && (other.ttft_ms < trade.ttft_ms || other.quality > trade.quality)
    })
}

/// The front over all modes, fastest first.
fn overall_front<'a>(trades: &[Trade<'a>]) -> Vec<Trade<'a>> {
    sorted(trades, |trade| on_front(trade, trades))
}

fn figure(evidence: &Evidence<'_>, metric: &Metric, trades: &[Trade<'_>]) -> Block {
    let chosen = trades.iter().filter(|trade| trade.mode.ratio.is_some());
    let mut policies: Vec<&str> = chosen.map(|trade| trade.mode.policy.as_str()).collect();
    policies.dedup();
    let panels = Palette::groups(&policies).into_iter().filter_map(|group| {
        Some(Panel {
            svg: plot(evidence, metric, trades, &group)?.svg(),
            legend: evidence.policy_keys(&group.policies),
        })
    });
    let panels: Vec<Panel> = panels.collect();
    Figure {
        legend: shared_legend(evidence, trades),
        width: match panels.len() {
            ..=2 => Width::Half,
            _ => Width::Third,
        },
        panels,
        ..Figure::default()
    }
    .block()
}

fn shared_legend(evidence: &Evidence<'_>, trades: &[Trade<'_>]) -> Vec<Key> {
    let limits = trades.iter().filter(|trade| trade.mode.ratio.is_none());
    let mut policies: Vec<String> = limits.map(|trade| trade.mode.policy.clone()).collect();
    policies.dedup();
    let mut keys = evidence.policy_keys(&policies);
    keys.push(Key::new(OVERALL.sample(false), "front over all modes"));
    keys
}

/// The front over all modes.
const OVERALL: Style = Style {
    width: 10.0,
    colour: "#d9d9d9",
    dash: "",
    ..Style::BASELINE
};

fn plot(
    evidence: &Evidence<'_>,
    metric: &Metric,
    trades: &[Trade<'_>],
    group: &Group,
) -> Option<Plot> {
    let overall = line(metric, OVERALL, Markers::Hidden, &overall_front(trades));
    let limits = trades.iter().filter(|trade| trade.mode.ratio.is_none());
    let limits = limits.map(|trade| {
        let style = evidence.palette.style(&trade.mode.policy);
        line(metric, style, Markers::Shown, std::slice::from_ref(trade))
    });
    let own = group.policies.iter().map(|policy| {
        let own = sorted(trades, |trade| trade.mode.policy == *policy);
        line(metric, evidence.palette.style(policy), Markers::Shown, &own)
    });
    let title = match group.title.as_str() {
        "" => "All policies",
        title => title,
    };
    let lines = [overall].into_iter().chain(own).chain(limits).collect();
    let (x, y) = (ttft_axis(trades), quality_axis(metric, trades));
    Plot::new(title, x, y, lines)
}

fn sorted<'a>(trades: &[Trade<'a>], keep: impl Fn(&Trade<'a>) -> bool) -> Vec<Trade<'a>> {
    let mut kept: Vec<Trade<'a>> = trades.iter().filter(|trade| keep(trade)).cloned().collect();
    kept.sort_by(|one, other| one.ttft_ms.total_cmp(&other.ttft_ms));
    kept
}

fn line(metric: &Metric, style: Style, markers: Markers, trades: &[Trade<'_>]) -> Line {
    let point = |trade: &Trade<'_>| Point {
        x: trade.ttft_ms,
        y: trade.quality,
        interval: None,
        title: format!(
            "{}: {:.1} ms, {}",
            trade.mode,
            trade.ttft_ms,
            metric.sentence(trade.row)
        ),
        hollow: !on_front(trade, trades),
    };
    Line {
        style,
        points: trades.iter().map(point).collect(),
        join: Join::Steps,
        markers,
    }
}

/// Linear if the slowest mode takes less than six times the fastest.
fn ttft_axis(trades: &[Trade<'_>]) -> Option<Axis> {
    let times = || trades.iter().map(|trade| trade.ttft_ms);
    let slowest = times().fold(0.0, f64::max);
    match times().all(|time| time > 0.0 && slowest / time < 6.0) {
        true => Axis::linear("TTFT p50, ms", times(), [0.0, f64::MAX]),
        false => Axis::log("TTFT p50, ms", times()),
    }
}

fn quality_axis(metric: &Metric, trades: &[Trade<'_>]) -> Option<Axis> {
    let values = trades.iter().map(|trade| trade.quality);
    Axis::linear(&metric.label(), values, [0.0, 100.0])
}

fn table(metric: &Metric, trades: &[Trade<'_>]) -> Table {
    let full = trades.iter().find(|trade| trade.mode.policy == "full");
    let front = overall_front(trades);
    Table::of("The front over all modes, fastest first", &front)
        .column("mode", |trade| Cell::code(&trade.mode))
        .column("TTFT p50, ms", |trade| Cell::number(Some(trade.ttft_ms), 1))
        .column("TTFT p95, ms", |trade| {
            Cell::number(trade.times.ttft_ms_p95, 1)
        })
        .column("speed-up", |trade| {
            Cell::number(full.map(|full| full.ttft_ms / trade.ttft_ms), 2)
        })
        .column(metric.label(), |trade| metric.cell(trade.row))
        .column("to full, points", |trade| {
            Cell::number(full.map(|full| trade.quality - full.quality), 1)
        })
        .table()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::run::{Content, Run};

    /// Modes with their TTFT in ms and their exact match.
    const MODES: [(&str, Option<f64>, f64, f64); 6] = [
        ("full", None, 17.0, 0.98),
        ("reuse", None, 6.0, 0.5),
        ("hkvd@2", Some(0.05), 12.0, 0.97),
        ("hkvd@2", Some(0.1), 13.0, 0.96),
        ("first-k", Some(0.05), 12.0, 0.5),
        ("oracle", Some(0.05), 5.0, 0.99),
    ];

    fn run() -> Run {
        let row = |(policy, ratio, ttft, exact_match): &(&str, Option<f64>, f64, f64)| {
            serde_json::json!({"dataset": "d", "policy": policy, "ratio": ratio,
                "exact_match": exact_match, "ttft_ms_p50": ttft})
        };
        let rows = serde_json::json!({"rows": MODES.iter().map(row).collect::<Vec<_>>()});
        let quality = serde_json::from_value(rows.clone()).unwrap();
        Run {
            name: "run".to_owned(),
            header: serde_json::from_str(r#"{"kind": "quality", "version": 1}"#).unwrap(),
            content: Content::Quality(
                Box::new(quality),
                Some(serde_json::from_value(rows).unwrap()),
            ),
        }
    }

    #[test]
    fn the_front_holds_what_no_served_mode_beats() {
        let runs = [run()];
        let scopes = Evidence::new(&runs).scopes();
        let metric = headline(&scopes[0]).unwrap();
        let trades = trades(&scopes[0], &metric);
        let front = overall_front(&trades);
        let modes: Vec<String> = front.iter().map(|trade| trade.mode.to_string()).collect();
        assert_eq!(modes, ["reuse", "hkvd@2:0.05", "full"]);
    }

    #[test]
    fn runs_without_times_make_no_chart_but_a_sentence() {
        let mut runs = [run()];
        if let Content::Quality(_, times) = &mut runs[0].content {
            *times = None;
        }
        let section = section(&Evidence::new(&runs));
        assert!(
            matches!(section.blocks.as_slice(), [Block::Text(text)] if text.contains("times.json"))
        );
    }
}
