//! The `[fusion]` section: the defaults for what a request does not specify.

use clap::ValueEnum;
use ragweave_engine::{Blend, EngineError, Mode, Ratio, Selection};
use serde::Deserialize;

use crate::mode_choice::{Auto, ModeChoice};

/// The fusion settings for what a request does not specify.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusionConfig {
    pub mode: ModeKind,
    /// Which tokens are recomputed, in the engine's notation.
    pub selection: Selection,
    /// Share of the non-exact context tokens to recompute.
    pub ratio: Ratio,
    /// Least ratio that `auto` may blend at; `None` stands for the ratio itself.
    #[serde(default)]
    pub min_ratio: Option<Ratio>,
}

/// The mode that configuration, flags and requests ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ModeKind {
    /// Compute every token
    Full,
    /// Use stored KV unchanged
    Reuse,
    /// Use stored KV and recompute a part of it
    Blend,
    /// Let the controller choose the fastest of full prefill, exact stored KV and the blend
    Auto,
}

impl FusionConfig {
    /// The mode of a request with these settings. A request that overrides some of them edits a clone first.
    pub fn to_choice(&self) -> ModeChoice {
        match self.mode {
            ModeKind::Full => Mode::Full.into(),
            ModeKind::Reuse => Mode::Reuse.into(),
            ModeKind::Blend => Mode::Blend(self.to_blend()).into(),
            ModeKind::Auto => ModeChoice::Auto(self.to_auto()),
        }
    }

    /// The engine's mode for these settings; for `auto` the blend that it may choose.
    pub fn to_mode(&self) -> Mode {
        self.to_choice().widest()
    }

    /// What `auto` may choose from: the blend at the least allowed ratio.
    pub fn to_auto(&self) -> Auto {
        Auto {
            blend: Blend {
                ratio: self.min_ratio.unwrap_or(self.ratio),
                ..self.to_blend()
            },
        }
    }

    /// The blend that the settings describe, whether or not `mode` asks for one.
    pub fn to_blend(&self) -> Blend {
        Blend::new(self.selection.clone(), self.ratio)
    }

    /// Checks what types cannot express. Returns the key at fault and what is wrong with it.
    pub(super) fn validate(&self) -> Result<(), (&'static str, String)> {
        check_servable(&self.selection).map_err(|message| ("fusion.selection", message))?;
        // Refuses what no model can run, however many layers it has.
        self.check_layers(usize::MAX)
    }

    /// Checks the settings against a model of `n_layers` layers, even those that only a request would use. Returns the
    /// key at fault and what is wrong with it.
    pub(crate) fn check_layers(&self, n_layers: usize) -> Result<(), (&'static str, String)> {
        match Mode::Blend(self.to_blend()).normalised(n_layers) {
            Ok(_) => Ok(()),
            Err(EngineError::InvalidRequest { message, .. }) => Err(("fusion.selection", message)),
            Err(other) => Err(("fusion.selection", other.to_string())),
        }
    }
}

/// Refuses policies that cost more than they save.
///
/// # Errors
/// What is wrong, and where such a policy can be used.
pub fn check_servable(selection: &Selection) -> Result<(), String> {
    match selection.policy.is_for_evaluation() {
        true => Err(format!(
            "`{selection}` needs a full prefill before it can choose, so it is for `ragweave-eval` only"
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer as _;
    use serde::de::value::{Error, StrDeserializer};

    use super::*;

    #[test]
    fn the_oracle_is_not_served() {
        let check = |text: &str| check_servable(&text.parse().unwrap());
        for text in ["oracle", "first-k+oracle/v"] {
            let refused = check(text).unwrap_err();
            assert!(refused.contains("ragweave-eval"), "{refused}");
        }
        assert_eq!(check("first-k+hkvd"), Ok(()));
    }

    #[test]
    fn flags_and_files_spell_the_modes_alike() {
        for mode in ModeKind::value_variants() {
            let value = mode.to_possible_value().unwrap();
            let name: StrDeserializer<'_, Error> = value.get_name().into_deserializer();
            assert_eq!(ModeKind::deserialize(name), Ok(*mode));
        }
        assert!(ModeKind::from_str("reused", false).is_err());
    }
}
