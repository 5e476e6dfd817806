//! The modes a command compares, and how results name them.

use std::fmt;
use std::str::FromStr;

use ragweave_engine::{BadNotation, Mode, Policy, Ratio};
use serde::{Deserialize, Serialize, Serializer};

/// The ratios `compare` measures by default, in percent.
const DEFAULT_PERCENT: [u8; 4] = [5, 10, 15, 20];
/// The check layers `compare` measures by default, if the model has them.
const DEFAULT_CHECK_LAYERS: [usize; 2] = [1, 2];

/// One mode to measure, in the engine's notation.
#[derive(Debug, Clone, PartialEq)]
pub struct ModeSpec {
    mode: Mode,
}

/// The name of a mode in a row of results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModeLabel {
    /// The spec that measures this mode again.
    #[serde(default)]
    pub spec: String,
    #[serde(default)]
    pub mode: String,
    /// The spec without its ratio: `hkvd@2`, or `full`, `reuse`.
    pub policy: String,
    pub ratio: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_layer: Option<usize>,
}

impl ModeSpec {
    pub fn new(mode: Mode) -> Self {
        Self { mode }
    }

    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// The mode for the prompt with this number. Random rows differ from prompt to prompt, so that
    /// the baseline is not one lucky draw; the same number draws the same rows again.
    pub fn mode_for(&self, prompt: usize) -> Mode {
        let mut mode = self.mode.clone();
        if let Mode::Blend(blend) = &mut mode {
            reseed(&mut blend.selection.policy, prompt as u64);
        }
        mode
    }

    pub fn label(&self) -> ModeLabel {
        let (mode, blend) = match &self.mode {
            Mode::Full => ("full", None),
            Mode::Reuse => ("reuse", None),
            Mode::Blend(blend) => ("blend", Some(blend)),
        };
        ModeLabel {
            spec: self.to_string(),
            mode: mode.to_owned(),
            policy: blend.map_or_else(|| mode.to_owned(), |blend| blend.selection.to_string()),
            ratio: blend.map(|blend| blend.ratio.get()),
            check_layer: blend.and_then(|blend| blend.selection.policy.check_layer()),
        }
    }

    /// Full, reuse, and `hkvd`, `first-k` and `random` at 5, 10, 15 and 20 %, for a model of this
    /// many layers.
    pub fn defaults(n_layers: usize) -> Vec<Self> {
        let checks = DEFAULT_CHECK_LAYERS
            .into_iter()
            .filter(|&layer| layer < n_layers);
        let policies = checks
            .map(Policy::hkvd)
            .chain([Policy::FirstK, Policy::Random { seed: 0 }]);
        let blends = policies.flat_map(|policy| {
            DEFAULT_PERCENT.map(|percent| Mode::blend(policy.clone(), Ratio::of_percent(percent)))
        });
        [Mode::Full, Mode::Reuse]
            .into_iter()
            .chain(blends)
            .map(Self::new)
            .collect()
    }
}

fn reseed(policy: &mut Policy, prompt: u64) {
    match policy {
        Policy::Random { seed } => *seed = seed.wrapping_add(prompt),
        Policy::Union(policies) => policies
            .iter_mut()
            .for_each(|policy| reseed(policy, prompt)),
        _ => {}
    }
}

impl FromStr for ModeSpec {
    type Err = BadNotation;

    fn from_str(spec: &str) -> Result<Self, BadNotation> {
        spec.parse().map(Self::new)
    }
}

impl Serialize for ModeSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for ModeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mode.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> ModeSpec {
        text.parse().unwrap()
    }

    #[test]
    fn the_default_modes_leave_out_check_layers_the_model_lacks() {
        assert_eq!(ModeSpec::defaults(4).len(), 2 + 4 * 4);
        let of_two_layers = ModeSpec::defaults(2);
        assert_eq!(of_two_layers.len(), 2 + 3 * 4);
        assert!(
            of_two_layers
                .iter()
                .all(|spec| spec.label().check_layer != Some(2))
        );
    }

    #[test]
    fn a_row_is_named_by_policy_and_ratio() {
        let label = spec("first-k+hkvd@2~mean:0.1").label();
        assert_eq!(label.policy, "first-k+hkvd@2~mean");
        assert_eq!((&*label.mode, label.ratio), ("blend", Some(0.1)));
        assert_eq!(label.check_layer, Some(2));
    }

    #[test]
    fn a_policy_is_its_spec_without_the_ratio() {
        let label = spec("hkvd@2/gradual:0.1").label();
        assert_eq!((&*label.mode, &*label.policy), ("blend", "hkvd@2/gradual"));
        assert_eq!(
            (label.spec.as_str(), label.ratio),
            ("hkvd@2/gradual:0.1", Some(0.1))
        );
        for name in ["full", "reuse"] {
            let label = spec(name).label();
            assert_eq!(
                (&*label.mode, &*label.policy, label.ratio),
                (name, name, None)
            );
        }
    }

    #[test]
    fn random_rows_differ_between_prompts_only() {
        for random in ["random:0.1", "first-k+random:0.1"] {
            assert_ne!(spec(random).mode_for(0), spec(random).mode_for(1));
        }
        assert_eq!(
            spec("random:0.1").mode_for(3),
            spec("random@3:0.1").mode_for(0)
        );
        assert_eq!(
            spec("first-k:0.1").mode_for(0),
            spec("first-k:0.1").mode_for(1)
        );
    }
}
