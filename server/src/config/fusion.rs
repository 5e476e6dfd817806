//! The default fusion mode as the configuration writes it, and its translation into the engine's `Mode`.

use ragweave_engine::{Deviation, Mode, Policy, Schedule};
use serde::Deserialize;

/// What fusion does when the request does not say.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusionConfig {
    pub mode: ModeKind,
    pub policy: PolicyKind,
    /// Share of the reusable context tokens to recompute, 0..=1.
    pub ratio: f64,
    pub check_layer: usize,
    pub deviation: DeviationKind,
    pub schedule: ScheduleKind,
    pub seed: u64,
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
pub enum PolicyKind {
    Hkvd,
    FirstK,
    Random,
    All,
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

impl FusionConfig {
    /// The engine's mode for these settings. A request that overrides some of them edits a clone first.
    pub fn to_mode(&self) -> Mode {
        match self.mode {
            ModeKind::Full => Mode::Full,
            ModeKind::Reuse => Mode::Reuse,
            ModeKind::Blend => Mode::blend(self.to_policy(), self.ratio),
        }
    }

    fn to_policy(&self) -> Policy {
        match self.policy {
            PolicyKind::Hkvd => Policy::Hkvd {
                check_layer: self.check_layer,
                deviation: self.deviation.into(),
                schedule: self.schedule.into(),
            },
            PolicyKind::FirstK => Policy::FirstK,
            PolicyKind::Random => Policy::Random { seed: self.seed },
            PolicyKind::All => Policy::All,
        }
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
