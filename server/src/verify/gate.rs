//! How the server applies a verdict: which requests may be fused.

use std::path::Path;

use ragweave_engine::Mode;

use super::judge::Verdict;
use super::record::Found;
use super::refused::Refused;
use crate::mode_choice::ModeChoice;

/// Whether requests may be fused.
#[derive(Debug, Clone, PartialEq)]
pub enum Gate {
    Open,
    /// Requests that would blend by one of these run as full prefill.
    Barred(Vec<Refused>),
    /// Every request runs as full prefill.
    Closed {
        reason: String,
    },
}

impl Gate {
    /// The mode to run a request in, and why it is not the one it asked for.
    pub fn pass(&self, mode: ModeChoice) -> (ModeChoice, Option<String>) {
        let reason = match self {
            Self::Open => None,
            Self::Closed { reason } => mode.reads_kv().then(|| reason.clone()),
            Self::Barred(refused) => match mode.widest() {
                Mode::Blend(blend) => refused
                    .iter()
                    .find(|refused| refused.covers(&blend))
                    .map(|refused| refused.reason().to_owned()),
                Mode::Full | Mode::Reuse => None,
            },
        };
        match reason {
            Some(reason) => (Mode::Full.into(), Some(reason)),
            None => (mode, None),
        }
    }

    /// Reads the verdict on this model from the data directory, and logs its effect on the configured mode.
    pub fn read(data: &Path, fingerprint: &str, configured: &ModeChoice) -> Self {
        let verdict = match Found::read(data, fingerprint) {
            Found::Nothing => return Self::Open,
            Found::Ignored(why) => {
                tracing::warn!("fusion verdict ignored: {why}");
                return Self::Open;
            }
            Found::Verdict(verdict) => verdict,
        };
        if verdict.verdict == Verdict::Bad {
            let reason = format!(
                "fusion verdict of this model is bad: {}",
                verdict.reasons.join("; ")
            );
            tracing::warn!("every request runs as full prefill: {reason}");
            return Self::Closed { reason };
        }
        let configured = configured.widest();
        if let Some(reason) = verdict.refusal(&configured) {
            tracing::warn!("requests that name no other policy run as full prefill: {reason}");
        } else if !verdict.knows(&configured) {
            tracing::warn!(
                "the fusion verdict is about {}, not about {configured}, which is served unverified; run `ragweave \
                 doctor --verify-fusion` again",
                verdict.mode
            );
        }
        let refused = verdict
            .needles
            .as_ref()
            .map(Refused::of)
            .unwrap_or_default();
        match refused.is_empty() {
            true => Self::Open,
            false => Self::Barred(refused),
        }
    }
}
