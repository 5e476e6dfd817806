//! How stored KV is mended: which rows are computed again, how many of each chunk, and what becomes
//! of the others.

use super::policy::Policy;
use crate::error::EngineError;

/// How the prompt's KV is made.
///
/// Written and read as in [`crate::fusion`]'s notation: `full`, `reuse`, `hkvd@2:0.1`,
/// `first-k+query/all~score:0.05`.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// Every token is computed.
    Full,
    /// Stored KV is used as it is; only the question and missing chunks are computed.
    Reuse,
    /// Stored KV is used, and a share of its tokens is recomputed.
    Blend(Blend),
}

/// A selection of stored rows to recompute.
#[derive(Debug, Clone, PartialEq)]
pub struct Blend {
    pub policy: Policy,
    /// Share of the candidate rows to recompute, in `0..=1`.
    pub ratio: f64,
    pub budget: Budget,
    pub correction: Correction,
}

/// How the rows to recompute are spread over the chunks. `k = ceil(ratio x candidates)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// The best `k` rows of the prompt, wherever they are.
    Prompt,
    /// The best `ceil(ratio x length)` rows of each chunk.
    Length,
    /// `k` rows, each chunk getting its share of what the policy's scores add up to: chunks that the
    /// context changes much are mended more. In the spirit of Cache-Craft (arXiv 2502.15734), which
    /// weighs chunks by the attention between them when they were cached; ours were cached alone,
    /// so the scores of this prompt stand for it.
    Score,
}

/// What becomes of stored rows that are not recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correction {
    /// They stay as they were stored.
    None,
    /// At each layer, the mean change of a chunk's recomputed rows is added to its other rows: K
    /// before RoPE, and V (after AgentKVShift, arXiv 2607.21604). Costs no forward pass, and a
    /// second write of the stored rows. Needs nothing at ingest.
    Mean,
}

impl Mode {
    /// The selection of rows, where there is one.
    pub fn as_blend(&self) -> Option<&Blend> {
        match self {
            Self::Blend(blend) => Some(blend),
            Self::Full | Self::Reuse => None,
        }
    }
}

impl Blend {
    /// The policy's rows wherever they are, the others as stored.
    pub fn new(policy: Policy, ratio: f64) -> Self {
        Self {
            policy,
            ratio,
            budget: Budget::Prompt,
            correction: Correction::None,
        }
    }

    /// Whether stored KV is looked at again after it has been placed at this layer.
    pub(crate) fn compares_at(&self, layer: usize) -> bool {
        let policy = &self.policy;
        self.correction == Correction::Mean
            || policy.compares_at(layer)
            || policy.is_for_evaluation()
    }

    /// The budget as applied: `first-k` means the first rows of each chunk.
    pub(crate) fn budget(&self) -> Budget {
        match (&self.policy, self.budget) {
            (Policy::FirstK, Budget::Prompt) => Budget::Length,
            (_, budget) => budget,
        }
    }
}

impl Mode {
    /// A blend with the default budget and no correction.
    pub fn blend(policy: Policy, ratio: f64) -> Self {
        Self::Blend(Blend::new(policy, ratio))
    }

    /// Checks the mode against a model and turns ratio 0 into `Reuse` and ratio 1 into `Full`
    /// (design invariant 7). `all` keeps the fused path it exists to test.
    ///
    /// # Errors
    /// Names the field: a ratio outside `0..=1`, a layer the model does not have, a union that
    /// cannot be.
    pub fn normalised(self, n_layers: usize) -> Result<Self, EngineError> {
        let Self::Blend(blend) = self else {
            return Ok(self);
        };
        if !(0.0..=1.0).contains(&blend.ratio) {
            return Err(EngineError::InvalidRequest {
                field: "ratio",
                message: format!("{} is not between 0 and 1", blend.ratio),
            });
        }
        blend.policy.validate(n_layers)?;
        Ok(match blend.policy {
            Policy::All => Self::Blend(blend),
            _ if blend.ratio == 0.0 => Self::Reuse,
            _ if blend.ratio == 1.0 => Self::Full,
            _ => Self::Blend(blend),
        })
    }

    /// Whether the mode uses stored KV: full prefill neither looks it up nor counts misses.
    pub fn reads_kv(&self) -> bool {
        match self {
            Self::Full => false,
            Self::Reuse => true,
            Self::Blend(blend) => blend.ratio < 1.0 || blend.policy == Policy::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mode_that_uses_stored_kv_reads_it() {
        assert!(!Mode::Full.reads_kv());
        assert!(!Mode::blend(Policy::FirstK, 1.0).reads_kv());
        assert!(Mode::blend(Policy::All, 1.0).reads_kv());
        assert!(Mode::blend(Policy::FirstK, 0.0).reads_kv());
        assert!(Mode::Reuse.reads_kv());
    }

    #[test]
    fn the_limits_of_the_ratio_are_modes_of_their_own() {
        let normalised = |text: &str| text.parse::<Mode>().unwrap().normalised(4).unwrap();
        assert_eq!(normalised("hkvd@2:0"), Mode::Reuse);
        assert_eq!(normalised("first-k+query~mean:1"), Mode::Full);
        assert_eq!(normalised("all"), Mode::blend(Policy::All, 1.0));
        assert_eq!(normalised("anchors@3:0.5").to_string(), "anchors@3:0.5");
    }

    #[test]
    fn what_a_model_cannot_do_is_refused_by_field() {
        for (text, expected, reason) in [
            ("hkvd@4:0.1", "check_layer", "4 is too deep"),
            ("anchors@1.4:0.1", "policy", "4 is too deep"),
            ("first-k+hkvd@9:0.1", "check_layer", "9 is too deep"),
            ("hkvd@1+hkvd@2:0.1", "policy", "one hkvd only"),
            ("query+first-k+query:0.1", "policy", "twice"),
            (
                "query+query/all+first-k+anchors+random:0.1",
                "policy",
                "more than 4",
            ),
        ] {
            let error = text.parse::<Mode>().unwrap().normalised(4).unwrap_err();
            match &error {
                EngineError::InvalidRequest { field, message } => {
                    assert_eq!(*field, expected, "{text}");
                    assert!(message.contains(reason), "{text}: {message}");
                }
                other => panic!("{text}: {other}"),
            }
        }
        let nested = Policy::Union(vec![Policy::FirstK, Policy::All]);
        assert!(Mode::blend(nested, 0.1).normalised(4).is_err());
        assert!(
            Mode::blend(Policy::Union(Vec::new()), 0.1)
                .normalised(4)
                .is_err()
        );
        assert!(Mode::blend(Policy::FirstK, f64::NAN).normalised(4).is_err());
    }
}
