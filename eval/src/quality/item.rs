//! What is measured of one example, as lines of a run's log.

use std::collections::HashMap;

use ragweave_engine::DeviationMap;
use serde::{Deserialize, Serialize};

use super::score::Scores;
use crate::dataset::{Dataset, Example};
use crate::examiner::Outcome;
use crate::metric::{mean, spearman, top_share};
use crate::mode_spec::ModeSpec;
use crate::run_dir::RunDir;
use crate::subject::Subject;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) dataset: String,
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) spec: String,
    pub(crate) answer: String,
    #[serde(flatten)]
    pub(crate) scores: Scores,
    pub(crate) kl: f64,
    pub(crate) top1_agreement: f64,
    pub(crate) attention_deviation: Vec<Option<f64>>,
    /// Recomputed over loaded tokens; the exact first chunk is loaded and never recomputed.
    pub(crate) recomputed_share: Option<f64>,
    /// Rows through attention and MLP at all layers, probes included, over those of full prefill.
    pub(crate) computed_share: f64,
    pub(crate) deviation_left: Option<f64>,
    /// Part of the true deviation, over all layers, in the rows recomputed; of mapped examples.
    pub(crate) deviation_captured: Option<f64>,
    pub(crate) prompt_tokens: usize,
    /// Whether every mode computes what full prefill does, because the prompt holds one chunk, which is exact.
    #[serde(default)]
    pub(crate) is_exact: bool,
    pub(crate) ttft_ms: f64,
}

/// Shares of tokens whose part in the deviation is given.
pub(crate) const TOP_SHARES: [f64; 3] = [0.1, 0.15, 0.2];

/// How one example's stored KV deviates from full prefill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeviationItem {
    pub(crate) dataset: String,
    pub(crate) id: String,
    /// Spearman's rank correlation between each layer and the next: `[n_layers - 1]`, of layer 0
    /// absent.
    pub(crate) rank_correlation: Vec<Option<f64>>,
    /// Part of the deviation in the tokens that deviate most: `[shares][layers]`.
    pub(crate) mass: Vec<Vec<Option<f64>>>,
    /// Mean deviation of each layer, relative to its mean squared norm.
    pub(crate) mean: Vec<f64>,
}

impl Item {
    pub(crate) fn new(
        dataset: &Dataset,
        example: &Example,
        spec: &ModeSpec,
        outcome: &Outcome,
        map: Option<&DeviationMap>,
        subject: &Subject,
    ) -> anyhow::Result<Self> {
        let report = &outcome.report;
        let loaded = report.tokens_loaded;
        Ok(Self {
            dataset: dataset.name.clone(),
            id: example.id.clone(),
            kind: example.kind.clone(),
            spec: spec.to_string(),
            scores: Scores::of(dataset.task, &outcome.answer, &example.answers, subject)?,
            answer: outcome.answer.clone(),
            kl: outcome.kl,
            top1_agreement: outcome.top1_agreement,
            attention_deviation: outcome.attention_deviation.clone(),
            recomputed_share: (loaded > 0).then(|| report.tokens_recomputed as f64 / loaded as f64),
            computed_share: report.computed_share(subject.n_layers()),
            deviation_left: report.deviation_left,
            deviation_captured: map.and_then(|map| captured(map, &report.recomputed_rows)),
            prompt_tokens: report.prompt_tokens,
            is_exact: false,
            ttft_ms: outcome.ttft_ms,
        })
    }
}

impl DeviationItem {
    pub(crate) fn new(dataset: &Dataset, example: &Example, map: &DeviationMap) -> Self {
        // Layer 0 of stored KV is right: what is left there is rounding, and says nothing.
        let later = map.layers.get(1..).unwrap_or_default();
        let mass = |share: f64| {
            let of_layers = later.iter().map(|layer| top_share(layer, share));
            std::iter::once(None).chain(of_layers).collect()
        };
        // A comparison that overflowed has no mean to give; the others have.
        let mean = |layer: &Vec<f32>| {
            let finite = layer.iter().filter(|deviation| deviation.is_finite());
            let finite: Vec<f64> = finite.map(|&deviation| f64::from(deviation)).collect();
            mean(&finite).unwrap_or_default()
        };
        let pairs = later.windows(2).map(|pair| spearman(&pair[0], &pair[1]));
        let rank_correlation = std::iter::once(None).chain(pairs);
        Self {
            dataset: dataset.name.clone(),
            id: example.id.clone(),
            rank_correlation: rank_correlation
                .take(map.layers.len().saturating_sub(1))
                .collect(),
            mass: TOP_SHARES.map(mass).to_vec(),
            mean: map.layers.iter().map(mean).collect(),
        }
    }
}

/// The part of the deviation, layers added up, that lies in `rows` (ascending). `None` if there
/// is no deviation, or nothing was recomputed.
fn captured(map: &DeviationMap, rows: &[usize]) -> Option<f64> {
    let of_row = |row: usize| -> f64 { map.layers.iter().map(|layer| f64::from(layer[row])).sum() };
    let total: f64 = (0..map.rows.len()).map(of_row).sum();
    let inside = map.rows.iter().enumerate();
    let inside = inside.filter(|(_, position)| rows.binary_search(position).is_ok());
    let captured: f64 = inside.map(|(row, _)| of_row(row)).sum();
    (total > 0.0 && !rows.is_empty()).then(|| captured / total)
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Line {
    Item(Item),
    Deviation(DeviationItem),
}

/// The items of a run, those of its earlier parts included.
pub(crate) struct Log {
    pub(super) run_dir: RunDir,
    items: HashMap<(String, String, String), Item>,
    deviations: HashMap<(String, String), DeviationItem>,
}

impl Log {
    /// `lines`: what an earlier part of the run has measured.
    pub(crate) fn resume(run_dir: RunDir, lines: Vec<Line>) -> Self {
        let mut log = Self {
            run_dir,
            items: HashMap::new(),
            deviations: HashMap::new(),
        };
        lines.into_iter().for_each(|line| log.keep(line));
        log
    }

    pub(crate) fn get(&self, dataset: &str, id: &str, spec: &str) -> Option<&Item> {
        self.items
            .get(&(dataset.to_owned(), id.to_owned(), spec.to_owned()))
    }

    pub(crate) fn deviation(&self, dataset: &str, id: &str) -> Option<&DeviationItem> {
        self.deviations.get(&(dataset.to_owned(), id.to_owned()))
    }

    /// Writes a line and keeps it as a resumed run will read it: numbers read from text may differ in
    /// their last bit, and the summary of a run must not depend on whether it was interrupted.
    pub(crate) fn add(&mut self, line: Line) -> anyhow::Result<()> {
        let kept = serde_json::from_str(&serde_json::to_string(&line)?)?;
        self.run_dir.append(&line)?;
        self.keep(kept);
        Ok(())
    }

    fn keep(&mut self, line: Line) {
        match line {
            Line::Item(item) => {
                let key = (item.dataset.clone(), item.id.clone(), item.spec.clone());
                self.items.insert(key, item);
            }
            Line::Deviation(item) => {
                let key = (item.dataset.clone(), item.id.clone());
                self.deviations.insert(key, item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_captured_is_the_part_of_the_rows_recomputed() {
        let map = DeviationMap {
            rows: vec![4, 5, 9],
            layers: vec![
                vec![0.0, 0.0, 0.0],
                vec![1.0, 2.0, 5.0],
                vec![1.0, 0.0, 1.0],
            ],
        };
        assert_eq!(captured(&map, &[5, 9]), Some(0.8));
        assert_eq!(captured(&map, &[]), None);
        let nothing = DeviationMap {
            rows: vec![4],
            layers: vec![vec![0.0]],
        };
        assert_eq!(captured(&nothing, &[4]), None);
    }
}
