//! The default fusion mode as the configuration writes it, and its translation into the engine's `Mode`.

use ragweave_engine::{Blend, Budget, Correction, Deviation, Mode, Schedule};
use serde::Deserialize;

use super::parse;
use super::selection::{Selection, Settings};

/// What fusion does when the request does not say.
///
/// `policy` is in the engine's notation; what it leaves open the other keys say.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusionConfig {
    pub mode: ModeKind,
    #[serde(deserialize_with = "parse::from_text")]
    pub policy: Selection,
    /// Share of the reusable context tokens to recompute, 0..=1.
    pub ratio: f64,
    pub check_layer: usize,
    pub deviation: DeviationKind,
    pub schedule: ScheduleKind,
    pub seed: u64,
    pub budget: BudgetKind,
    pub correction: CorrectionKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModeKind {
    Full,
    Reuse,
    Blend,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviationKind {
    K,
    V,
    Kv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    Fixed,
    Gradual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BudgetKind {
    Prompt,
    Length,
    Score,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CorrectionKind {
    None,
    Mean,
}

impl FusionConfig {
    /// The engine's mode for these settings. A request that overrides some of them edits a clone first.
    pub fn to_mode(&self) -> Mode {
        match self.mode {
            ModeKind::Full => Mode::Full,
            ModeKind::Reuse => Mode::Reuse,
            ModeKind::Blend => Mode::Blend(self.to_blend()),
        }
    }

    /// The blend that the settings describe, whether or not `mode` asks for one.
    pub fn to_blend(&self) -> Blend {
        let settings = Settings {
            check_layer: Some(self.check_layer),
            deviation: Some(self.deviation.into()),
            schedule: Some(self.schedule.into()),
            seed: Some(self.seed),
        };
        Blend {
            policy: self.policy.completed(settings),
            ratio: self.policy.ratio().unwrap_or(self.ratio),
            budget: self.policy.budget().unwrap_or(self.budget.into()),
            correction: self.policy.correction().unwrap_or(self.correction.into()),
        }
    }

    /// Checks what types cannot say. Returns the key at fault and what is wrong with it.
    pub(super) fn validate(&self) -> Result<(), (&'static str, String)> {
        if !(0.0..=1.0).contains(&self.ratio) {
            return Err((
                "fusion.ratio",
                format!("must lie in 0..=1, is {}", self.ratio),
            ));
        }
        if let Some(ratio) = self.policy.ratio() {
            let message = format!("holds the ratio {ratio}; write it as fusion.ratio = {ratio}");
            return Err(("fusion.policy", message));
        }
        self.policy
            .check_servable()
            .map_err(|message| ("fusion.policy", message))
    }
}

impl From<DeviationKind> for Deviation {
    fn from(kind: DeviationKind) -> Self {
        match kind {
            DeviationKind::K => Self::K,
            DeviationKind::V => Self::V,
            DeviationKind::Kv => Self::Kv,
        }
    }
}

impl From<ScheduleKind> for Schedule {
    fn from(kind: ScheduleKind) -> Self {
        match kind {
            ScheduleKind::Fixed => Self::Fixed,
            ScheduleKind::Gradual => Self::Gradual,
        }
    }
}

impl From<BudgetKind> for Budget {
    fn from(kind: BudgetKind) -> Self {
        match kind {
            BudgetKind::Prompt => Self::Prompt,
            BudgetKind::Length => Self::Length,
            BudgetKind::Score => Self::Score,
        }
    }
}

impl From<CorrectionKind> for Correction {
    fn from(kind: CorrectionKind) -> Self {
        match kind {
            CorrectionKind::None => Self::None,
            CorrectionKind::Mean => Self::Mean,
        }
    }
}
