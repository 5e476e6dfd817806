//! The figures a quality row holds, and how each is drawn and written.

use super::chart::axis::{Axis, short};
use super::document::Cell;
use super::evidence::Scope;
use super::record::QualityRow;

/// One figure of a quality row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) scale: Scale,
    value: fn(&QualityRow) -> Option<f64>,
    interval: fn(&QualityRow) -> Option<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// A share, drawn in percent.
    Percent,
    /// Positive, over powers of ten.
    Log,
}

pub(crate) const EXACT_MATCH: Metric = Metric {
    name: "exact match",
    scale: Scale::Percent,
    value: |row| row.exact_match.get(),
    interval: |row| row.exact_match_ci.get(),
};
pub(crate) const F1: Metric = Metric {
    name: "word F1",
    scale: Scale::Percent,
    value: |row| row.f1.get(),
    interval: |row| row.f1_ci.get(),
};
pub(crate) const TOKEN_F1: Metric = Metric {
    name: "token F1",
    scale: Scale::Percent,
    value: |row| row.token_f1.get(),
    interval: |_| None,
};
pub(crate) const ROUGE_L: Metric = Metric {
    name: "Rouge-L",
    scale: Scale::Percent,
    value: |row| row.rouge_l.get(),
    interval: |row| row.rouge_l_ci.get(),
};
pub(crate) const RULER: Metric = Metric {
    name: "RULER string match",
    scale: Scale::Percent,
    value: |row| row.ruler.get(),
    interval: |row| row.ruler_ci.get(),
};
pub(crate) const NORMALISED_F1: Metric = Metric {
    name: "normalised F1",
    scale: Scale::Percent,
    value: |row| row.normalised_f1.get(),
    interval: |_| None,
};
pub(crate) const KL: Metric = Metric {
    name: "KL divergence from full prefill",
    scale: Scale::Log,
    value: |row| row.kl.get(),
    interval: |row| row.kl_ci.get(),
};
pub(crate) const TOP1: Metric = Metric {
    name: "top-1 agreement with full prefill",
    scale: Scale::Percent,
    value: |row| row.top1_agreement.get(),
    interval: |row| row.top1_agreement_ci.get(),
};

/// Metrics of answers, the first that a dataset has heads its charts.
pub(crate) const ANSWERS: [Metric; 6] = [EXACT_MATCH, RULER, ROUGE_L, F1, TOKEN_F1, NORMALISED_F1];

impl Metric {
    /// As it is drawn: percent for shares.
    pub(crate) fn value(&self, row: &QualityRow) -> Option<f64> {
        (self.value)(row).map(|value| self.drawn(value))
    }

    /// As it is drawn.
    pub(crate) fn interval(&self, row: &QualityRow) -> Option<(f64, f64)> {
        let (low, high) = (self.interval)(row)?;
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

    pub(crate) fn label(&self) -> String {
        match self.scale {
            Scale::Percent => format!("{}, %", self.name),
            Scale::Log => format!("{}, nats", self.name),
        }
    }

    /// An axis for all rows of a scope, so that its panels compare.
    pub(crate) fn axis(&self, scope: &Scope<'_>, label: &str) -> Option<Axis> {
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
                Axis::linear(label, values.chain(ends), bounds)
            }
            // The ends of intervals may be near zero, which would stretch this axis.
            Scale::Log => Axis::log(label, values),
        }
    }

    pub(crate) fn text(&self, value: f64) -> String {
        match self.scale {
            Scale::Percent => format!("{value:.1}"),
            Scale::Log => short(value),
        }
    }

    /// The value with its interval.
    pub(crate) fn cell(&self, row: &QualityRow) -> Cell {
        Cell::with_interval(self.value(row), self.interval(row), |value| {
            self.text(value)
        })
    }

    /// "98.0 (97.1–98.9)", for tooltips.
    pub(crate) fn sentence(&self, row: &QualityRow) -> String {
        match self.cell(row) {
            Cell::Text(text) | Cell::Code(text) => format!("{} {text}, n {}", self.name, row.n),
            Cell::Interval(value, interval) => {
                format!("{} {value} ({interval}), n {}", self.name, row.n)
            }
        }
    }
}

/// What heads the charts of a scope: the first metric of answers it has, else agreement.
pub(crate) fn headline(scope: &Scope<'_>) -> Option<Metric> {
    let mut metrics = ANSWERS.into_iter().chain([TOP1]);
    metrics.find(|metric| metric.is_measured(scope))
}
