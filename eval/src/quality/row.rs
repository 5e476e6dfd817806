//! One policy at one ratio over one dataset.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::item::Item;
use crate::dataset::{Dataset, Task};
use crate::metric::{
    Metric, bootstrap_ci, column_means, mean, normalised_f1, paired_difference_ci,
};
use crate::mode_spec::ModeSpec;

/// Below this mean score of full prefill, a model cannot do a task: scores of modes are noise.
const CANNOT: f64 = 0.05;
/// What a mean in the demo's row is evidence of.
const DEMO_NOTE: &str =
    "made for this model: shows that the mechanics work, and is no evidence on real LLMs";

/// The ends of a 95 % interval; absent unless both are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Option<(Option<f64>, Option<f64>)>")]
pub(crate) struct Interval(pub(crate) Option<(f64, f64)>);

impl From<Option<(Option<f64>, Option<f64>)>> for Interval {
    fn from(ends: Option<(Option<f64>, Option<f64>)>) -> Self {
        Self(ends.and_then(|(low, high)| low.zip(high)))
    }
}

/// A row of results. Scores are means in `0..=1`; intervals are 95 % bootstrap intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) dataset: String,
    pub(crate) policy: String,
    pub(crate) ratio: Option<f64>,
    #[serde(default)]
    pub(crate) n: usize,
    pub(crate) exact_match: Option<f64>,
    pub(crate) exact_match_ci: Interval,
    pub(crate) f1: Option<f64>,
    pub(crate) f1_ci: Interval,
    pub(crate) token_f1: Option<f64>,
    pub(crate) rouge_l: Option<f64>,
    pub(crate) rouge_l_ci: Interval,
    pub(crate) ruler: Option<f64>,
    pub(crate) ruler_ci: Interval,
    /// 0 is plain reuse, 1 is full prefill.
    pub(crate) normalised_f1: Option<f64>,
    /// Of the task's main score, minus that of full prefill on the same questions.
    pub(crate) vs_full: Option<f64>,
    pub(crate) vs_full_ci: Interval,
    /// Mean over the tokens of full prefill's answer, in nats.
    pub(crate) kl: Option<f64>,
    pub(crate) kl_ci: Interval,
    /// KL minus that of plain reuse on the same questions: below zero is nearer to full prefill than computing nothing
    /// again.
    pub(crate) kl_vs_reuse: Option<f64>,
    pub(crate) kl_vs_reuse_ci: Interval,
    pub(crate) top1_agreement: Option<f64>,
    pub(crate) top1_agreement_ci: Interval,
    #[serde(default)]
    pub(crate) attention_deviation: Vec<Option<f64>>,
    pub(crate) recomputed_share: Option<f64>,
    /// Of full prefill's rows through attention and MLP, over all layers: what a mode computes.
    pub(crate) computed_share: Option<f64>,
    pub(crate) deviation_left: Option<f64>,
    /// Of the true deviation of mapped examples, the part in the rows recomputed.
    pub(crate) deviation_captured: Option<f64>,
    pub(crate) where_full_is_right: Option<Subset>,
    #[serde(default)]
    pub(crate) by_type: BTreeMap<String, Score>,
    pub(crate) note: Option<String>,
}

/// The questions that full prefill answers rightly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Subset {
    pub(crate) n: usize,
    pub(crate) exact_match: Option<f64>,
    pub(crate) exact_match_ci: Interval,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Score {
    pub(crate) n: usize,
    pub(crate) exact_match: Option<f64>,
}

/// A mode's items beside those of full prefill and of reuse, question by question.
pub(super) struct Compared<'a> {
    pub(super) items: Vec<&'a Item>,
    pub(super) full: Vec<&'a Item>,
    pub(super) reuse: Vec<&'a Item>,
}

impl Row {
    pub(super) fn new(
        dataset: &Dataset,
        spec: &ModeSpec,
        compared: &Compared<'_>,
        seed: u64,
    ) -> Self {
        let items = &compared.items;
        let all = |score: fn(&Item) -> Option<f64>| scores(items, score);
        let cannot = compared.cannot();
        // A model that cannot do the task has no scores, only its fidelity to full prefill.
        let of_task = |score: fn(&Item) -> Option<f64>| match cannot {
            Some(_) => Vec::new(),
            None => all(score),
        };
        let ci = |samples: &[f64]| Interval(bootstrap_ci(samples, seed));
        let exact_match = of_task(|item| item.scores.exact_match);
        let f1 = of_task(|item| item.scores.f1);
        let rouge_l = of_task(|item| item.scores.rouge_l);
        let ruler = of_task(|item| item.scores.ruler);
        let pairs = match cannot {
            Some(_) => Vec::new(),
            None => compared.pairs(),
        };
        let kl = all(|item| Some(item.kl));
        let top1 = all(|item| Some(item.top1_agreement));
        let beside_reuse = compared.kl_beside_reuse();
        let label = spec.label();
        Self {
            dataset: dataset.name.clone(),
            policy: label.policy,
            ratio: label.ratio,
            n: items.len(),
            exact_match: mean(&exact_match),
            exact_match_ci: ci(&exact_match),
            f1: mean(&f1),
            f1_ci: ci(&f1),
            token_f1: mean(&of_task(|item| item.scores.token_f1)),
            rouge_l: mean(&rouge_l),
            rouge_l_ci: ci(&rouge_l),
            ruler: mean(&ruler),
            ruler_ci: ci(&ruler),
            normalised_f1: compared.normalised_f1().filter(|_| cannot.is_none()),
            vs_full: mean_difference(&pairs),
            vs_full_ci: Interval(paired_difference_ci(&pairs, seed)),
            kl: mean(&kl),
            kl_ci: ci(&kl),
            kl_vs_reuse: mean_difference(&beside_reuse),
            kl_vs_reuse_ci: Interval(paired_difference_ci(&beside_reuse, seed)),
            top1_agreement: mean(&top1),
            top1_agreement_ci: ci(&top1),
            attention_deviation: column_means(items.iter().map(|item| &item.attention_deviation)),
            recomputed_share: mean(&all(|item| item.recomputed_share)),
            computed_share: mean(&all(|item| Some(item.computed_share))),
            deviation_left: mean(&all(|item| item.deviation_left)),
            deviation_captured: mean(&all(|item| item.deviation_captured)),
            where_full_is_right: Subset::of(compared, seed),
            by_type: by_type(items, cannot.is_none()),
            note: note(dataset, cannot, items),
        }
    }

    /// The mean of a metric; `None` if the task has none.
    pub(super) fn metric(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::ExactMatch => self.exact_match,
            Metric::F1 => self.f1,
            Metric::TokenF1 => self.token_f1,
            Metric::RougeL => self.rouge_l,
            Metric::Ruler => self.ruler,
            Metric::Kl => self.kl,
            Metric::Top1Agreement => self.top1_agreement,
        }
    }

    /// The score by which answers of this dataset are right.
    pub(super) fn main(&self) -> Option<f64> {
        self.exact_match.or(self.ruler).or(self.rouge_l)
    }

    pub(super) fn main_ci(&self) -> Option<(f64, f64)> {
        let (exact_match, ruler) = (self.exact_match_ci.0, self.ruler_ci.0);
        exact_match.or(ruler).or(self.rouge_l_ci.0)
    }
}

impl Compared<'_> {
    /// Full prefill's mean score, where it is too low for scores to mean anything.
    fn cannot(&self) -> Option<f64> {
        let score = mean(&scores(&self.full, |item| item.scores.main()))?;
        (score < CANNOT).then_some(score)
    }

    fn pairs(&self) -> Vec<(f64, f64)> {
        let pairs = self.items.iter().zip(&self.full);
        let pairs = pairs.map(|(item, full)| Some((item.scores.main()?, full.scores.main()?)));
        pairs.flatten().collect()
    }

    fn kl_beside_reuse(&self) -> Vec<(f64, f64)> {
        let pairs = self.items.iter().zip(&self.reuse);
        pairs.map(|(item, reuse)| (item.kl, reuse.kl)).collect()
    }

    fn normalised_f1(&self) -> Option<f64> {
        let f1 = |items: &[&Item]| mean(&scores(items, |item| item.scores.f1));
        normalised_f1(f1(&self.items)?, f1(&self.reuse)?, f1(&self.full)?)
    }
}

impl Subset {
    fn of(compared: &Compared<'_>, seed: u64) -> Option<Self> {
        let right = compared
            .pairs()
            .into_iter()
            .filter(|(_, full)| *full >= 1.0);
        let samples: Vec<f64> = right.map(|(mode, _)| mode).collect();
        (!samples.is_empty()).then(|| Self {
            n: samples.len(),
            exact_match: mean(&samples),
            exact_match_ci: Interval(bootstrap_ci(&samples, seed)),
        })
    }
}

fn mean_difference(pairs: &[(f64, f64)]) -> Option<f64> {
    mean(
        &pairs
            .iter()
            .map(|(left, right)| left - right)
            .collect::<Vec<_>>(),
    )
}

fn scores(items: &[&Item], score: fn(&Item) -> Option<f64>) -> Vec<f64> {
    items.iter().filter_map(|item| score(item)).collect()
}

fn by_type(items: &[&Item], scored: bool) -> BTreeMap<String, Score> {
    let mut kinds: BTreeMap<String, Vec<&Item>> = BTreeMap::new();
    for item in items.iter().filter(|item| !item.kind.is_empty()) {
        kinds.entry(item.kind.clone()).or_default().push(item);
    }
    let score = |items: Vec<&Item>| Score {
        n: items.len(),
        exact_match: mean(&scores(&items, |item| item.scores.main())).filter(|_| scored),
    };
    let kinds = kinds.into_iter();
    kinds.map(|(kind, items)| (kind, score(items))).collect()
}

fn note(dataset: &Dataset, cannot: Option<f64>, items: &[&Item]) -> Option<String> {
    let mut notes = Vec::new();
    if dataset.name == "demo" {
        notes.push(DEMO_NOTE.to_owned());
    }
    if let Some(score) = cannot {
        let what = match dataset.task {
            Task::ShortAnswer => "exact match",
            Task::Summary { .. } => "Rouge-L",
            Task::Ruler { .. } => "string match",
        };
        let share = score * 100.0;
        notes.push(format!(
            "this model cannot do the task (full prefill: {what} {share:.1} %), so only its fidelity to full \
             prefill is given"
        ));
    }
    let n_exact = items.iter().filter(|item| item.is_exact).count();
    if n_exact > 0 {
        notes.push(format!(
            "{n_exact} of {} prompts hold one chunk, which is exact under every mode: they lose nothing, and make every \
             mode look nearer to full prefill",
            items.len()
        ));
    }
    let n_skipped = dataset.skipped.len();
    if n_skipped > 0 {
        notes.push(format!("{n_skipped} lines of the file were skipped"));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

#[cfg(test)]
#[path = "row/tests.rs"]
mod tests;
