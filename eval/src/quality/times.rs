//! Times to first token of a quality run: beside the summary, because no two runs agree on them.

use serde::{Deserialize, Serialize};

use super::item::{Item, Log};
use crate::dataset::Dataset;
use crate::metric::{median, percentile};
use crate::mode_spec::ModeSpec;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) rows: Vec<TimesRow>,
}

/// From the plan to the first token's logits, stored KV in memory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TimesRow {
    pub(crate) dataset: String,
    pub(crate) policy: String,
    pub(crate) ratio: Option<f64>,
    pub(crate) ttft_ms_p50: Option<f64>,
    pub(crate) ttft_ms_p95: Option<f64>,
}

impl Times {
    pub(crate) fn new(datasets: &[Dataset], specs: &[ModeSpec], log: &Log) -> Self {
        let row = |dataset: &Dataset, spec: &ModeSpec| {
            let name = spec.to_string();
            let examples = dataset.examples.iter();
            let items = examples.filter_map(|example| log.get(&dataset.name, &example.id, &name));
            let times: Vec<f64> = items.map(|item: &Item| item.ttft_ms).collect();
            let label = spec.label();
            TimesRow {
                dataset: dataset.name.clone(),
                policy: label.policy,
                ratio: label.ratio,
                ttft_ms_p50: median(&times),
                ttft_ms_p95: percentile(&times, 95.0),
            }
        };
        let rows = datasets
            .iter()
            .flat_map(|dataset| specs.iter().map(move |spec| row(dataset, spec)));
        Self {
            rows: rows.collect(),
        }
    }
}
