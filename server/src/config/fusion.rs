//! The default fusion mode as the configuration writes it, and its translation into the engine's `Mode`.

use ragweave_engine::{Blend, Budget, Correction, Deviation, EngineError, Mode, Schedule};
use serde::Deserialize;

use super::parse;
use super::selection::{Selection, Settings};
use crate::controller::{Auto, ModeChoice};

/// What fusion does when the request does not say.
///
/// `policy` is in the engine's notation; what it leaves open the other keys say.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusionConfig {
    pub mode: ModeKind,
    #[serde(deserialize_with = "parse::from_text")]
    pub policy: Selection,
    /// Share of the context tokens that are not exact to recompute, 0..=1.
    pub ratio: f64,
    pub check_layer: usize,
    pub deviation: DeviationKind,
    pub schedule: ScheduleKind,
    pub seed: u64,
    pub budget: BudgetKind,
    pub correction: CorrectionKind,
    /// Least ratio that `auto` may blend at; `None` is the ratio itself.
    #[serde(default)]
    pub min_ratio: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModeKind {
    Full,
    Reuse,
    Blend,
    /// The fastest of full prefill, exact stored KV and the blend, as the controller foresees them.
    Auto,
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
    /// What a request asks for with these settings. One that overrides some of them edits a clone first.
    pub fn to_choice(&self) -> ModeChoice {
        match self.mode {
            ModeKind::Full => Mode::Full.into(),
            ModeKind::Reuse => Mode::Reuse.into(),
            ModeKind::Blend => Mode::Blend(self.to_blend()).into(),
            ModeKind::Auto => ModeChoice::Auto(self.to_auto()),
        }
    }

    /// The engine's mode for these settings; of `auto` the blend that it may choose.
    pub fn to_mode(&self) -> Mode {
        self.to_choice().widest()
    }

    /// What `auto` chooses from: the blend at the least ratio allowed.
    pub fn to_auto(&self) -> Auto {
        let blend = self.to_blend();
        Auto {
            blend: Blend {
                ratio: self.min_ratio.unwrap_or(blend.ratio),
                ..blend
            },
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
        let ratios = [
            ("fusion.ratio", Some(self.ratio)),
            ("fusion.min_ratio", self.min_ratio),
        ];
        for (key, ratio) in ratios {
            if let Some(ratio) = ratio.filter(|ratio| !(0.0..=1.0).contains(ratio)) {
                return Err((key, format!("must lie in 0..=1, is {ratio}")));
            }
        }
        if let Some(ratio) = self.policy.ratio() {
            let message = format!("holds the ratio {ratio}; write it as fusion.ratio = {ratio}");
            return Err(("fusion.policy", message));
        }
        self.policy
            .check_servable()
            .map_err(|message| ("fusion.policy", message))?;
        // What no model can run, however many layers it has.
        self.check_layers(usize::MAX)
    }

    /// Checks the settings against a model of so many layers; those too that only a request would use. Returns the key
    /// at fault and what is wrong with it.
    pub(crate) fn check_layers(&self, n_layers: usize) -> Result<(), (&'static str, String)> {
        let layer = self.check_layer;
        if layer >= n_layers {
            let message = format!(
                "{layer} is too deep for a model of {n_layers} layers, which count from 0 to {}",
                n_layers.saturating_sub(1)
            );
            return Err(("fusion.check_layer", message));
        }
        match Mode::Blend(self.to_blend()).normalised(n_layers) {
            Ok(_) => Ok(()),
            Err(EngineError::InvalidRequest { message, .. }) => Err(("fusion.policy", message)),
            Err(other) => Err(("fusion.policy", other.to_string())),
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
