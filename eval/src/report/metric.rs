//! The figures a quality row holds, and how each is drawn and written.

use super::chart::axis::{Axis, short};
use super::document::Cell;
use super::evidence::Scope;
use crate::quality::row::{Interval, Row};

/// One figure of a quality row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) scale: Scale,
    value: fn(&Row) -> Option<f64>,
    interval: fn(&Row) -> Interval,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// A share, drawn in percent.
    Percent,
    /// Positive, over powers of ten.
    Log,
}

const fn share(
    name: &'static str,
    value: fn(&Row) -> Option<f64>,
    interval: fn(&Row) -> Interval,
) -> Metric {
    Metric {
        name,
        scale: Scale::Percent,
        value,
        interval,
    }
}

pub(crate) const EXACT_MATCH: Metric = share(
    "exact match",
    |row| row.exact_match,
    |row| row.exact_match_ci,
);
pub(crate) const TOP1: Metric = share(
    "top-1 agreement with full prefill",
    |row| row.top1_agreement,
    |row| row.top1_agreement_ci,
);
pub(crate) const KL: Metric = Metric {
    scale: Scale::Log,
    ..share(
        "KL divergence from full prefill",
        |row| row.kl,
        |row| row.kl_ci,
    )
};

/// Metrics of answers, the first that a dataset has heads its charts.
pub(crate) const ANSWERS: [Metric; 6] = [
    EXACT_MATCH,
    share("RULER string match", |row| row.ruler, |row| row.ruler_ci),
    share("Rouge-L", |row| row.rouge_l, |row| row.rouge_l_ci),
    share("word F1", |row| row.f1, |row| row.f1_ci),
    share("token F1", |row| row.token_f1, |_| Interval(None)),
    share("normalised F1", |row| row.normalised_f1, |_| Interval(None)),
];

impl Metric {
    /// As it is drawn: percent for shares.
    pub(crate) fn value(&self, row: &Row) -> Option<f64> {
        (self.value)(row).map(|value| self.drawn(value))
    }

    /// As it is drawn.
    pub(crate) fn interval(&self, row: &Row) -> Option<(f64, f64)> {
        let (low, high) = (self.interval)(row).0?;
        Some((self.drawn(low), self.drawn(high)))
    }

    fn drawn(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Percent => value * 100.0,
            Scale::Log => value,
        }
    }

    pub(crate) fn is_measured(&self, scope: &Scope<'_>) -> bool {
        scope.rows.iter().any(|row| self.value(row).is_some())
    }

    pub(crate) fn unit(&self) -> &'static str {
        match self.scale {
            Scale::Percent => "%",
            Scale::Log => "nats",
        }
    }

    /// The name as a title begins.
    pub(crate) fn title(&self) -> String {
        let (first, rest) = self.name.split_at(1);
        first.to_ascii_uppercase() + rest
    }

    pub(crate) fn label(&self) -> String {
        format!("{}, {}", self.name, self.unit())
    }

    /// An axis for all rows of a scope, so that its panels compare.
    pub(crate) fn axis(&self, scope: &Scope<'_>) -> Option<Axis> {
        let values = scope.rows.iter().filter_map(|row| self.value(row));
        match self.scale {
            Scale::Percent => {
                let ends = scope.rows.iter().filter_map(|row| self.interval(row));
                let ends = ends.flat_map(|(low, high)| [low, high]);
                // Normalised F1 can leave the range from 0 to 100.
                let bounds = match values.clone().all(|value| (0.0..=100.0).contains(&value)) {
                    true => [0.0, 100.0],
                    false => [f64::MIN, f64::MAX],
                };
                Axis::linear(self.unit(), values.chain(ends), bounds)
            }
            // The ends of intervals may be near zero, which would stretch this axis.
            Scale::Log => Axis::log(self.unit(), values),
        }
    }

    pub(crate) fn text(&self, value: f64) -> String {
        match self.scale {
            Scale::Percent => format!("{value:.1}"),
            Scale::Log => short(value),
        }
    }

    /// The value with its interval.
    pub(crate) fn cell(&self, row: &Row) -> Cell {
        Cell::with_interval(self.value(row), self.interval(row), |value| {
            self.text(value)
        })
    }

    /// "98.0 (97.1–98.9)", for tooltips.
    pub(crate) fn sentence(&self, row: &Row) -> String {
        let value = match self.cell(row) {
            Cell::Text(text) | Cell::Code(text) => text,
            Cell::Interval(value, interval) => format!("{value} ({interval})"),
        };
        format!("{} {value}, n {}", self.name, row.n)
    }
}

/// What heads the charts of a scope: the first metric of answers it has, else agreement.
pub(crate) fn headline(scope: &Scope<'_>) -> Option<Metric> {
    let mut metrics = ANSWERS.into_iter().chain([TOP1]);
    metrics.find(|metric| metric.is_measured(scope))
}
