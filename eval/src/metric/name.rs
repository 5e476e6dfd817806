//! The names of metrics, as flags and results write them.

use std::fmt;
use std::str::FromStr;

/// What a row of results can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    ExactMatch,
    /// Over words, after SQuAD's normalisation.
    F1,
    /// Over tokenizer tokens, as the CacheBlend repository counts.
    TokenF1,
    RougeL,
    /// RULER's string match.
    Ruler,
    /// Divergence of the next-token distribution from that of full prefill.
    Kl,
    /// The share of tokens on which the likeliest next token is that of full prefill.
    Top1Agreement,
}

/// A name that is no metric's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown metric `{name}`: known are {}", known())]
pub struct UnknownMetric {
    pub name: String,
}

impl Metric {
    /// In the order of the columns of a table.
    pub const ALL: [Self; 7] = [
        Self::ExactMatch,
        Self::F1,
        Self::TokenF1,
        Self::RougeL,
        Self::Ruler,
        Self::Kl,
        Self::Top1Agreement,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::ExactMatch => "exact_match",
            Self::F1 => "f1",
            Self::TokenF1 => "token_f1",
            Self::RougeL => "rouge_l",
            Self::Ruler => "ruler",
            Self::Kl => "kl",
            Self::Top1Agreement => "top1_agreement",
        }
    }

    /// Whether it compares with full prefill, and so needs no reference answers.
    pub fn is_fidelity(self) -> bool {
        matches!(self, Self::Kl | Self::Top1Agreement)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        let found = Self::ALL.into_iter().find(|metric| metric.name() == name);
        found.ok_or_else(|| UnknownMetric {
            name: name.to_owned(),
        })
    }
}

fn known() -> String {
    Metric::ALL.map(Metric::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for metric in Metric::ALL {
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
