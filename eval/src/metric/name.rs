//! The names of metrics, as flags and results write them.

use strum::{Display, EnumString, IntoStaticStr, VariantArray, VariantNames};

/// What a row of results can hold, in the order of the columns of a table.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    VariantNames,
)]
#[strum(serialize_all = "snake_case")]
#[strum(parse_err_ty = UnknownMetric, parse_err_fn = UnknownMetric::named)]
pub enum Metric {
    ExactMatch,
    /// Over words, after SQuAD's normalisation.
    F1,
    /// Over tokenizer tokens, as the CacheBlend repository counts.
    TokenF1,
    RougeL,
    Ruler,
    /// Divergence of the next-token distribution from that of full prefill.
    Kl,
    /// The share of tokens on which the likeliest next token is that of full prefill.
    Top1Agreement,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown metric `{name}`: known are {}", <Metric as VariantNames>::VARIANTS.join(", "))]
pub struct UnknownMetric {
    pub name: String,
}

impl UnknownMetric {
    fn named(name: &str) -> Self {
        let name = name.to_owned();
        Self { name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for &metric in <Metric as VariantArray>::VARIANTS {
            assert_eq!(metric.to_string().parse(), Ok(metric));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "F1".parse::<Metric>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown metric `F1`: known are exact_match, f1, token_f1, rouge_l, ruler, kl, \
             top1_agreement"
        );
    }
}
