//! How a prompt's KV is made: in full, from stored KV as it is, or from stored KV with a share of the
//! rows recomputed.

use serde::{Deserialize, Serialize};

use super::ratio::Ratio;
use super::selection::{Policy, Selection};
use crate::error::EngineError;

/// How the prompt's KV is made.
///
/// Its text form is that of [`crate::fusion`]'s notation: `full`, `reuse`, `hkvd@2:0.1`,
/// `first-k+query/all~score:0.05`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Mode {
    /// Computes every token.
    Full,
    /// Uses stored KV as it is and computes only the question and missing chunks.
    Reuse,
    /// Uses stored KV and recomputes a share of its tokens.
    Blend(Blend),
}

/// Which stored rows to recompute, and how many.
#[derive(Debug, Clone, PartialEq)]
pub struct Blend {
    pub selection: Selection,
    /// Share of the candidate rows to recompute.
    pub ratio: Ratio,
}

/// A blend whose ratio may come from a separate setting: `hkvd@2/v:0.1` or `hkvd@2/v`, as flags
/// and requests write it.
#[derive(Debug, Clone, PartialEq)]
pub struct PartialBlend {
    pub selection: Selection,
    pub ratio: Option<Ratio>,
}

impl Blend {
    pub fn new(selection: impl Into<Selection>, ratio: Ratio) -> Self {
        Self {
            selection: selection.into(),
            ratio,
        }
    }
}

impl PartialBlend {
    /// The blend, with `ratio` if the text gave none.
    pub fn or_ratio(self, ratio: Ratio) -> Blend {
        Blend::new(self.selection, self.ratio.unwrap_or(ratio))
    }
}

impl Mode {
    pub fn blend(selection: impl Into<Selection>, ratio: Ratio) -> Self {
        Self::Blend(Blend::new(selection, ratio))
    }

    /// The selection of rows and its ratio, if there is one.
    pub fn as_blend(&self) -> Option<&Blend> {
        match self {
            Self::Blend(blend) => Some(blend),
            Self::Full | Self::Reuse => None,
        }
    }

    /// Checks the mode against a model and turns ratio 0 into `Reuse` and ratio 1 into `Full`
    /// (design invariant 7). `all` keeps the fused path it exists to test.
    ///
    /// # Errors
    /// Names the field: a layer the model does not have, an invalid union.
    pub fn normalised(self, n_layers: usize) -> Result<Self, EngineError> {
        let Self::Blend(blend) = self else {
            return Ok(self);
        };
        blend.selection.policy.validate(n_layers)?;
        Ok(match blend.selection.policy {
            Policy::All => Self::Blend(blend),
            _ if blend.ratio == Ratio::ZERO => Self::Reuse,
            _ if blend.ratio == Ratio::ONE => Self::Full,
            _ => Self::Blend(blend),
        })
    }

    /// Whether the mode uses stored KV: full prefill neither looks it up nor counts misses.
    pub fn reads_kv(&self) -> bool {
        match self {
            Self::Full => false,
            Self::Reuse => true,
            Self::Blend(blend) => blend.ratio < Ratio::ONE || blend.selection.policy == Policy::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mode_that_uses_stored_kv_reads_it() {
        assert!(!Mode::Full.reads_kv());
        assert!(!Mode::blend(Policy::FirstK, Ratio::ONE).reads_kv());
        assert!(Mode::blend(Policy::All, Ratio::ONE).reads_kv());
        assert!(Mode::blend(Policy::FirstK, Ratio::ZERO).reads_kv());
        assert!(Mode::Reuse.reads_kv());
    }

    #[test]
    fn the_limits_of_the_ratio_are_modes_of_their_own() {
        let normalised = |text: &str| text.parse::<Mode>().unwrap().normalised(4).unwrap();
        assert_eq!(normalised("hkvd@2:0"), Mode::Reuse);
        assert_eq!(normalised("first-k+query~mean:1"), Mode::Full);
        assert_eq!(normalised("all"), Mode::blend(Policy::All, Ratio::ONE));
        assert_eq!(normalised("anchors@3:0.5").to_string(), "anchors@3:0.5");
    }

    #[test]
    fn what_a_model_cannot_do_is_refused_at_every_ratio() {
        for text in ["hkvd@4:0.1", "hkvd@4:0", "hkvd@4:1"] {
            let refused = text.parse::<Mode>().unwrap().normalised(4).unwrap_err();
            assert!(
                refused.to_string().contains("layer 4 is too deep"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_ratio_in_the_text_is_stronger_than_the_setting() {
        let blend = |text: &str| text.parse::<PartialBlend>().unwrap();
        let or_half = |text: &str| Mode::Blend(blend(text).or_ratio(Ratio::of_percent(50)));
        assert_eq!(or_half("hkvd@2/v:0.1").to_string(), "hkvd@2/v:0.1");
        assert_eq!(or_half("hkvd@2/v").to_string(), "hkvd@2/v:0.5");
    }
}
