//! What the files of a run hold. Every measured value may be null, absent, or not finite: it is
//! then absent. Names, versions and shapes must be right.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::ensure;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The version of run directories this build reads.
pub(crate) const SUPPORTED_VERSION: u64 = 1;

#[derive(Debug, Deserialize)]
pub(crate) struct Versioned {
    pub(crate) version: u64,
}

/// The first line of `run.jsonl`.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    pub(crate) kind: String,
    pub(crate) version: u64,
    #[serde(default)]
    pub(crate) command: Option<String>,
    #[serde(default)]
    pub(crate) config: Value,
    #[serde(default)]
    pub(crate) commit: Option<String>,
    #[serde(default)]
    pub(crate) device: Option<String>,
    #[serde(default)]
    pub(crate) model: Option<Model>,
    #[serde(default)]
    pub(crate) seed: Value,
    #[serde(default)]
    pub(crate) date: Value,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Model {
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) fingerprint: Option<String>,
    #[serde(default)]
    pub(crate) layers: Option<usize>,
}

/// A measured value; null, `"NaN"` and the infinities are absent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Measure(Option<f64>);

impl Measure {
    pub(crate) fn get(self) -> Option<f64> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Measure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a number or null")]
        enum Raw {
            Number(f64),
            Text(String),
        }
        let value = match Option::deserialize(deserializer)? {
            None => return Ok(Self(None)),
            Some(Raw::Number(value)) => value,
            // Some writers of JSON spell what it cannot hold: "NaN", "-inf".
            Some(Raw::Text(text)) => match text.parse::<f64>() {
                Ok(value) if !value.is_finite() => value,
                _ => return Err(D::Error::custom(format!("`{text}` is not a number"))),
            },
        };
        Ok(Self(Some(value).filter(|value| value.is_finite())))
    }
}

/// Two values that belong together, such as the ends of a 95 % interval; absent unless both are
/// known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Interval(Option<(f64, f64)>);

impl Interval {
    pub(crate) fn get(self) -> Option<(f64, f64)> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ends: Option<[Measure; 2]> = Option::deserialize(deserializer)?;
        Ok(Self(ends.and_then(|[low, high]| low.get().zip(high.get()))))
    }
}

/// A mode as rows name it: a policy's spec without its ratio, and the ratio.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModeName {
    /// `hkvd@2`, `full`, `reuse`.
    pub(crate) policy: String,
    /// Absent for `full`, `reuse` and `all`.
    pub(crate) ratio: Option<f64>,
}

/// Rows keep `policy` and `ratio` as fields of their own, so that an error can name them.
macro_rules! named_by_mode {
    ($($row:ty),*) => {$(
        impl $row {
            pub(crate) fn mode(&self) -> ModeName {
                ModeName::new(&self.policy, self.ratio)
            }
        }
    )*};
}
named_by_mode!(QualityRow, TimesRow, TtftRow, LoadRow, DecayRow, Flatness);

impl ModeName {
    /// The policy `all` recomputes every row whatever ratio its row gives, so it has none.
    pub(crate) fn new(policy: &str, ratio: Option<f64>) -> Self {
        Self {
            policy: policy.to_owned(),
            ratio: ratio.filter(|_| policy != "all"),
        }
    }
}

impl fmt::Display for ModeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.policy)?;
        self.ratio.map_or(Ok(()), |ratio| write!(f, ":{ratio}"))
    }
}

/// A quality run's `summary.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Quality {
    pub(crate) rows: Vec<QualityRow>,
    #[serde(default)]
    pub(crate) deviation: Option<Vec<DeviationRow>>,
    #[serde(default)]
    pub(crate) heatmap: Option<Heatmap>,
}

impl Quality {
    /// Lists that belong together have one length.
    ///
    /// # Errors
    /// Names the field that has another.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.heatmap.as_ref().map_or(Ok(()), Heatmap::check)
    }
}

/// One policy at one ratio on one dataset.
#[derive(Debug, Deserialize)]
pub(crate) struct QualityRow {
    pub(crate) dataset: String,
    pub(crate) policy: String,
    #[serde(default)]
    ratio: Option<f64>,
    #[serde(default)]
    pub(crate) n: usize,
    #[serde(default)]
    pub(crate) exact_match: Measure,
    #[serde(default)]
    pub(crate) exact_match_ci: Interval,
    #[serde(default)]
    pub(crate) f1: Measure,
    #[serde(default)]
    pub(crate) f1_ci: Interval,
    #[serde(default)]
    pub(crate) token_f1: Measure,
    #[serde(default)]
    pub(crate) rouge_l: Measure,
    #[serde(default)]
    pub(crate) rouge_l_ci: Interval,
    #[serde(default)]
    pub(crate) ruler: Measure,
    #[serde(default)]
    pub(crate) ruler_ci: Interval,
    #[serde(default)]
    pub(crate) normalised_f1: Measure,
    /// Of the dataset's main score, question by question.
    #[serde(default)]
    pub(crate) vs_full: Measure,
    #[serde(default)]
    pub(crate) vs_full_ci: Interval,
    #[serde(default)]
    pub(crate) kl: Measure,
    #[serde(default)]
    pub(crate) kl_ci: Interval,
    #[serde(default)]
    pub(crate) top1_agreement: Measure,
    #[serde(default)]
    pub(crate) top1_agreement_ci: Interval,
    /// By layer.
    #[serde(default)]
    pub(crate) attention_deviation: Option<Vec<Measure>>,
    #[serde(default)]
    pub(crate) recomputed_share: Measure,
    /// Of what full prefill computes, over all layers.
    #[serde(default)]
    pub(crate) computed_share: Measure,
    #[serde(default)]
    pub(crate) deviation_left: Measure,
    #[serde(default)]
    pub(crate) where_full_is_right: Option<Score>,
    /// By kind of question.
    #[serde(default)]
    pub(crate) by_type: Option<BTreeMap<String, Score>>,
    #[serde(default)]
    pub(crate) note: Option<String>,
}

/// Exact match over some of the questions.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Score {
    #[serde(default)]
    pub(crate) n: usize,
    #[serde(default)]
    pub(crate) exact_match: Measure,
    #[serde(default)]
    pub(crate) exact_match_ci: Interval,
}

/// How the deviation of stored KV behaves from layer to layer, over a dataset's prompts.
#[derive(Debug, Deserialize)]
pub(crate) struct DeviationRow {
    pub(crate) dataset: String,
    #[serde(default)]
    pub(crate) n: usize,
    /// Spearman, layer l against l + 1.
    #[serde(default)]
    pub(crate) rank_correlation: Vec<Measure>,
    /// Share of tokens ("0.1") to the share of deviation they hold, by layer.
    #[serde(default)]
    pub(crate) mass: BTreeMap<String, Vec<Measure>>,
    /// By layer, relative to the layer's mean squared norm.
    #[serde(default)]
    pub(crate) mean: Vec<Measure>,
}

/// The deviation of one prompt's context tokens.
#[derive(Debug, Deserialize)]
pub(crate) struct Heatmap {
    pub(crate) dataset: String,
    #[serde(default)]
    pub(crate) id: Value,
    #[serde(default)]
    pub(crate) question: String,
    /// One per context row.
    pub(crate) tokens: Vec<String>,
    /// Positions in the prompt, one per context row.
    pub(crate) rows: Vec<usize>,
    /// `[layers][rows]`
    pub(crate) layers: Vec<Vec<Measure>>,
    /// Half-open ranges of indices into `rows`.
    #[serde(default)]
    pub(crate) chunks: Vec<[usize; 2]>,
    /// A mode's spec to the positions it recomputed.
    #[serde(default)]
    pub(crate) selected: BTreeMap<String, Vec<usize>>,
}

impl Heatmap {
    fn check(&self) -> anyhow::Result<()> {
        let n = self.rows.len();
        ensure!(
            self.tokens.len() == n,
            "field `heatmap.tokens` has {} values where `heatmap.rows` has {n}",
            self.tokens.len()
        );
        for (layer, values) in self.layers.iter().enumerate() {
            ensure!(
                values.len() == n,
                "field `heatmap.layers[{layer}]` has {} values where `heatmap.rows` has {n}",
                values.len()
            );
        }
        for (number, [start, end]) in self.chunks.iter().enumerate() {
            ensure!(
                start <= end && *end <= n,
                "field `heatmap.chunks[{number}]` is [{start}, {end}], not a range of the {n} rows"
            );
        }
        Ok(())
    }
}

/// A quality run's `times.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct QualityTimes {
    pub(crate) rows: Vec<TimesRow>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TimesRow {
    pub(crate) dataset: String,
    pub(crate) policy: String,
    #[serde(default)]
    ratio: Option<f64>,
    #[serde(default)]
    pub(crate) ttft_ms_p50: Measure,
    #[serde(default)]
    pub(crate) ttft_ms_p95: Measure,
}

/// One mode at one context length.
#[derive(Debug, Deserialize)]
pub(crate) struct TtftRow {
    pub(crate) policy: String,
    #[serde(default)]
    ratio: Option<f64>,
    pub(crate) context_tokens: usize,
    #[serde(default)]
    pub(crate) n: usize,
    #[serde(default)]
    pub(crate) ttft_ms_p50: Measure,
    #[serde(default)]
    pub(crate) ttft_ms_p95: Measure,
    #[serde(default)]
    pub(crate) speedup_vs_full: Measure,
    /// Of the whole process, the model among it.
    #[serde(default)]
    pub(crate) peak_memory_mib: Measure,
    #[serde(default)]
    pub(crate) stages: Stages,
}

/// Medians of the parts of TTFT.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Stages {
    #[serde(default)]
    pub(crate) queue_ms: Measure,
    #[serde(default)]
    pub(crate) embed_ms: Measure,
    #[serde(default)]
    pub(crate) search_ms: Measure,
    /// Reading; runs beside computing.
    #[serde(default)]
    pub(crate) load_ms: Measure,
    /// Computing stood still for a layer not yet read.
    #[serde(default)]
    pub(crate) load_wait_ms: Measure,
    #[serde(default)]
    pub(crate) probe_ms: Measure,
    #[serde(default)]
    pub(crate) recompute_ms: Measure,
    #[serde(default)]
    pub(crate) first_decode_ms: Measure,
}

/// One mode at one offered rate.
#[derive(Debug, Deserialize)]
pub(crate) struct LoadRow {
    pub(crate) policy: String,
    #[serde(default)]
    ratio: Option<f64>,
    /// Requests per second offered.
    pub(crate) rate: f64,
    #[serde(default)]
    pub(crate) n: usize,
    #[serde(default)]
    pub(crate) completed: usize,
    #[serde(default)]
    pub(crate) rejected: usize,
    #[serde(default)]
    pub(crate) ttft_ms: Spread,
    #[serde(default)]
    pub(crate) tpot_ms: Spread,
    #[serde(default)]
    pub(crate) itl_ms: Spread,
    #[serde(default)]
    pub(crate) e2e_ms: Spread,
    /// Requests per second that kept the TTFT objective.
    #[serde(default)]
    pub(crate) goodput: Measure,
    #[serde(default)]
    pub(crate) achieved_rate: Measure,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Spread {
    #[serde(default)]
    pub(crate) p50: Measure,
    #[serde(default)]
    pub(crate) p95: Measure,
    #[serde(default)]
    pub(crate) p99: Measure,
}

/// A decay run's `summary.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Decay {
    pub(crate) rows: Vec<DecayRow>,
    #[serde(default)]
    pub(crate) flatness: Option<Vec<Flatness>>,
}

/// A mode's last batch beside its first.
#[derive(Debug, Deserialize)]
pub(crate) struct Flatness {
    pub(crate) policy: String,
    #[serde(default)]
    ratio: Option<f64>,
    #[serde(default)]
    pub(crate) hit_rate: Interval,
    #[serde(default)]
    pub(crate) ttft_ms_p50: Interval,
    /// Last over first.
    #[serde(default)]
    pub(crate) ttft_ratio: Measure,
    /// The same of full prefill: what the machine did to all modes meanwhile.
    #[serde(default)]
    pub(crate) ttft_ratio_of_full: Measure,
    #[serde(default)]
    pub(crate) is_flat: Option<bool>,
}

/// One mode over one batch of novel queries.
#[derive(Debug, Deserialize)]
pub(crate) struct DecayRow {
    pub(crate) policy: String,
    #[serde(default)]
    ratio: Option<f64>,
    pub(crate) batch: usize,
    #[serde(default)]
    pub(crate) queries: usize,
    #[serde(default)]
    pub(crate) hit_rate: Measure,
    #[serde(default)]
    pub(crate) ttft_ms_p50: Measure,
    #[serde(default)]
    pub(crate) ttft_ms_p95: Measure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_absent_and_other_text_is_refused() {
        let read = serde_json::from_str::<Measure>;
        assert_eq!(read("0.5").unwrap().get(), Some(0.5));
        for absent in ["null", "\"NaN\"", "\"-inf\"", "\"Infinity\""] {
            assert_eq!(read(absent).unwrap().get(), None, "{absent}");
        }
        for bad in ["\"0.5\"", "\"high\"", "true", "[1]"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_without_a_choice_of_rows_have_no_ratio() {
        assert_eq!(
            ModeName::new("hkvd@2", Some(0.15)).to_string(),
            "hkvd@2:0.15"
        );
        assert_eq!(ModeName::new("all", Some(1.0)).to_string(), "all");
    }

    #[test]
    fn intervals_need_both_ends() {
        let read = |text: &str| serde_json::from_str::<Interval>(text).unwrap().get();
        assert_eq!(read("[0.1, 0.2]"), Some((0.1, 0.2)));
        assert_eq!(read("[0.1, null]"), None);
        assert_eq!(read("null"), None);
        assert!(serde_json::from_str::<Interval>("[0.1]").is_err());
    }

    #[test]
    fn chunks_and_layers_of_a_heat_map_fit_its_rows() {
        let map = |layers: &str, chunks: &str| -> Heatmap {
            let text = format!(
                r#"{{"dataset": "d", "tokens": ["a", "b"], "rows": [4, 5], "layers": {layers},
                    "chunks": {chunks}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        assert!(map("[[0.1, null]]", "[[0, 2]]").check().is_ok());
        for (layers, chunks, field) in [
            ("[[0.1]]", "[]", "heatmap.layers[0]"),
            ("[]", "[[0, 1], [1, 3]]", "heatmap.chunks[1]"),
            ("[]", "[[2, 1]]", "heatmap.chunks[0]"),
        ] {
            let error = map(layers, chunks).check().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
