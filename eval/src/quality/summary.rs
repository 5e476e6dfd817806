//! The summary of a run. It holds no times, and is the same for the same seed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::heat_map::HeatMap;
use super::item::{DeviationItem, Item, Log, TOP_SHARES};
use super::row::{Compared, Row};
use crate::dataset::{Dataset, Example};
use crate::metric::{Metric, column_means};
use crate::mode_spec::ModeSpec;
use crate::table::{Table, number, percent};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    #[serde(default)]
    pub(crate) deviation: Vec<DeviationRow>,
    pub(crate) heatmap: Option<HeatMap>,
}

/// How far stored KV is from full prefill, over the examples of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeviationRow {
    pub(crate) dataset: String,
    #[serde(default)]
    pub(crate) n: usize,
    /// Mean rank correlation between each layer and the next; none for layer 0, whose stored KV is
    /// right.
    #[serde(default)]
    pub(crate) rank_correlation: Vec<Option<f64>>,
    /// By share of tokens, per layer: the mean part of the deviation they hold.
    #[serde(default)]
    pub(crate) mass: BTreeMap<String, Vec<Option<f64>>>,
    /// Mean deviation of each layer, relative to its mean squared norm.
    #[serde(default)]
    pub(crate) mean: Vec<Option<f64>>,
}

impl Report {
    /// Sums up what the log holds, in the order of datasets, modes and examples.
    pub(crate) fn new(
        datasets: &[Dataset],
        specs: &[ModeSpec],
        log: &Log,
        seed: u64,
        heatmap: Option<HeatMap>,
    ) -> Self {
        let rows = datasets.iter().flat_map(|dataset| {
            let items = |spec: &str| -> Vec<&Item> {
                let of = |example: &Example| log.get(&dataset.name, &example.id, spec);
                dataset.examples.iter().filter_map(of).collect()
            };
            specs.iter().map(move |spec| {
                let compared = Compared {
                    items: items(&spec.to_string()),
                    full: items("full"),
                    reuse: items("reuse"),
                };
                Row::new(dataset, spec, &compared, seed)
            })
        });
        let deviation = datasets.iter().map(|dataset| {
            let of = |example: &Example| log.deviation(&dataset.name, &example.id);
            DeviationRow::new(dataset, dataset.examples.iter().filter_map(of).collect())
        });
        Self {
            rows: rows.collect(),
            deviation: deviation.filter(|row| row.n > 0).collect(),
            heatmap,
        }
    }
}

impl DeviationRow {
    fn new(dataset: &Dataset, items: Vec<&DeviationItem>) -> Self {
        let mass = |(place, share): (usize, &f64)| {
            let of_layers = items.iter().map(|item| &item.mass[place]);
            (share.to_string(), column_means(of_layers))
        };
        let means = |item: &&DeviationItem| item.mean.iter().copied().map(Some).collect();
        let means: Vec<Vec<Option<f64>>> = items.iter().map(means).collect();
        Self {
            dataset: dataset.name.clone(),
            n: items.len(),
            rank_correlation: column_means(items.iter().map(|item| &item.rank_correlation)),
            mass: TOP_SHARES.iter().enumerate().map(mass).collect(),
            mean: column_means(means.iter()),
        }
    }
}

impl Report {
    /// The rows as a table with the columns of `metrics`, or the task's own score, KL and top-1
    /// agreement where none are named; and what is known of the deviation.
    pub(crate) fn describe(&self, metrics: &[Metric]) -> String {
        let shown = match metrics {
            [] => &[Metric::Kl, Metric::Top1Agreement],
            metrics => metrics,
        };
        let score: &[&str] = match metrics {
            [] => &["score", "95 %"],
            _ => &[],
        };
        let names: Vec<&str> = shown.iter().map(|&metric| metric.into()).collect();
        let first = ["dataset", "policy", "ratio", "n"];
        let last = ["kl to reuse", "recomputed", "computed", "captured"];
        let mut table = Table::new(&[&first[..], score, &names, &last].concat());
        for row in &self.rows {
            table.push(cells(row, shown, !score.is_empty()));
        }
        let deviation: String = self.deviation.iter().map(DeviationRow::describe).collect();
        format!("{table}{deviation}")
    }
}

fn cells(row: &Row, metrics: &[Metric], with_score: bool) -> Vec<String> {
    let mut cells = vec![
        row.dataset.clone(),
        row.policy.clone(),
        number(row.ratio, 2),
        row.n.to_string(),
    ];
    if with_score {
        let interval = |(low, high): (f64, f64)| format!("{:.1}-{:.1}", low * 100.0, high * 100.0);
        cells.push(percent(row.main()));
        cells.push(row.main_ci().map_or_else(|| "-".to_owned(), interval));
    }
    cells.extend(metrics.iter().map(|&metric| match metric {
        Metric::Kl => number(row.metric(metric), 4),
        _ => percent(row.metric(metric)),
    }));
    let vs_reuse = row.kl_vs_reuse.map(|kl| format!("{kl:+.4}"));
    cells.push(vs_reuse.unwrap_or_else(|| "-".to_owned()));
    let shares = [row.recomputed_share, row.computed_share];
    cells.extend(shares.map(percent));
    cells.push(percent(row.deviation_captured));
    cells
}

impl DeviationRow {
    /// A line of rank correlations and one for each share of tokens, each after a line end.
    fn describe(&self) -> String {
        let (dataset, n) = (&self.dataset, self.n);
        let ranks: Vec<String> = self
            .rank_correlation
            .iter()
            .map(|&of| number(of, 2))
            .collect();
        let ranks = ranks.join(", ");
        let mut text = format!(
            "\n\n{dataset}: rank correlation of deviation between adjacent layers over {n} examples: {ranks}"
        );
        for (share, layers) in &self.mass {
            let layers: Vec<String> = layers.iter().map(|&of| percent(of)).collect();
            let layers = layers.join(", ");
            text +=
                &format!("\n{dataset}: deviation in the top {share} of tokens, by layer: {layers}");
        }
        text
    }
}
