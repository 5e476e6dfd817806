//! How a mode is written on the command line and named in results:
//! `full`, `reuse`, `hkvd@2:0.1`, `hkvd@1/k/gradual:0.2`, `first-k:0.15`, `random:0.1`, `all`.
//!
//! ```text
//! spec    = "full" | "reuse" | "all" | policy ":" ratio
//! policy  = "first-k" | "random" [ "@" seed ] | "hkvd" [ "@" check layer ] { "/" option }
//! option  = "k" | "v" | "kv" | "fixed" | "gradual"
//! ```

use std::fmt;
use std::str::FromStr;

use ragweave_engine::{Deviation, Mode, Policy, Schedule};
use serde::Serialize;

use crate::cli::parse_ratio;

/// The layer `hkvd` compares at where the spec names none.
const DEFAULT_CHECK_LAYER: usize = 1;
/// The ratios `compare` puts side by side unless told otherwise.
const DEFAULT_RATIOS: [f64; 4] = [0.05, 0.1, 0.15, 0.2];
/// The check layers `compare` puts side by side, as far as the model has them.
const DEFAULT_CHECK_LAYERS: [usize; 2] = [1, 2];

/// One mode to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct ModeSpec {
    mode: Mode,
}

/// What names a mode in a row of results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModeFields {
    /// The spec that measures this mode again.
    pub spec: String,
    pub mode: &'static str,
    pub policy: Option<&'static str>,
    pub ratio: Option<f64>,
    pub check_layer: Option<usize>,
}

/// A spec that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mode `{spec}`: {problem}; write for example full, reuse, hkvd@2:0.1, first-k:0.15")]
pub struct BadSpec {
    spec: String,
    problem: String,
}

impl ModeSpec {
    pub fn new(mode: Mode) -> Self {
        Self { mode }
    }

    /// The mode for the prompt of this number. Random rows differ from prompt to prompt, so that
    /// the baseline is not one lucky draw; the same number draws the same rows again.
    pub fn mode_for(&self, prompt: usize) -> Mode {
        match &self.mode {
            Mode::Blend {
                policy: Policy::Random { seed },
                ratio,
            } => {
                let seed = seed.wrapping_add(prompt as u64);
                Mode::Blend {
                    policy: Policy::Random { seed },
                    ratio: *ratio,
                }
            }
            mode => mode.clone(),
        }
    }

    pub fn fields(&self) -> ModeFields {
        let spec = self.to_string();
        let (mode, policy, ratio, check_layer) = match &self.mode {
            Mode::Full => ("full", None, None, None),
            Mode::Reuse => ("reuse", None, None, None),
            Mode::Blend { policy, ratio } => {
                let check_layer = match policy {
                    Policy::Hkvd { check_layer, .. } => Some(*check_layer),
                    Policy::FirstK | Policy::Random { .. } | Policy::All => None,
                };
                ("blend", Some(policy.name()), Some(*ratio), check_layer)
            }
        };
        ModeFields {
            spec,
            mode,
            policy,
            ratio,
            check_layer,
        }
    }

    /// Full, reuse, and every policy at 5, 10, 15 and 20 %, for a model of this many layers.
    pub fn defaults(n_layers: usize) -> Vec<Self> {
        let checks = DEFAULT_CHECK_LAYERS
            .into_iter()
            .filter(|&layer| layer < n_layers);
        let policies = checks
            .map(hkvd)
            .chain([Policy::FirstK, Policy::Random { seed: 0 }]);
        let blends = policies.flat_map(|policy| {
            DEFAULT_RATIOS.map(|ratio| Mode::Blend {
                policy: policy.clone(),
                ratio,
            })
        });
        [Mode::Full, Mode::Reuse]
            .into_iter()
            .chain(blends)
            .map(Self::new)
            .collect()
    }
}

/// `hkvd` with its defaults.
pub(crate) fn hkvd(check_layer: usize) -> Policy {
    Policy::Hkvd {
        check_layer,
        deviation: Deviation::Kv,
        schedule: Schedule::Fixed,
    }
}

impl FromStr for ModeSpec {
    type Err = BadSpec;

    fn from_str(spec: &str) -> Result<Self, BadSpec> {
        let bad = |problem: String| BadSpec {
            spec: spec.to_owned(),
            problem,
        };
        let mode = match spec {
            "full" => Mode::Full,
            "reuse" => Mode::Reuse,
            "all" => Mode::Blend {
                policy: Policy::All,
                ratio: 1.0,
            },
            _ => {
                let (policy, ratio) = spec
                    .split_once(':')
                    .ok_or_else(|| bad("`:` and a ratio are missing".into()))?;
                let policy = parse_policy(policy).map_err(bad)?;
                Mode::Blend {
                    policy,
                    ratio: parse_ratio(ratio).map_err(bad)?,
                }
            }
        };
        Ok(Self { mode })
    }
}

fn parse_policy(text: &str) -> Result<Policy, String> {
    let mut options = text.split('/');
    let head = options.next().unwrap_or_default();
    let (name, argument) = match head.split_once('@') {
        Some((name, argument)) => (name, Some(argument)),
        None => (head, None),
    };
    let mut policy = match name {
        "hkvd" => hkvd(parse_argument(argument, DEFAULT_CHECK_LAYER)?),
        "random" => Policy::Random {
            seed: parse_argument(argument, 0)?,
        },
        "first-k" if argument.is_none() => Policy::FirstK,
        "first-k" => return Err("first-k takes no `@`".to_owned()),
        _ => return Err(format!("`{name}` is not one of hkvd, first-k, random")),
    };
    for option in options {
        set_option(&mut policy, option)?;
    }
    Ok(policy)
}

fn parse_argument<T: FromStr>(argument: Option<&str>, default: T) -> Result<T, String> {
    let Some(argument) = argument else {
        return Ok(default);
    };
    argument
        .parse()
        .map_err(|_| format!("`{argument}` after `@` is not a whole number"))
}

fn set_option(policy: &mut Policy, option: &str) -> Result<(), String> {
    let Policy::Hkvd {
        deviation,
        schedule,
        ..
    } = policy
    else {
        return Err("only hkvd takes options after `/`".to_owned());
    };
    match option {
        "k" => *deviation = Deviation::K,
        "v" => *deviation = Deviation::V,
        "kv" => *deviation = Deviation::Kv,
        "fixed" => *schedule = Schedule::Fixed,
        "gradual" => *schedule = Schedule::Gradual,
        _ => {
            return Err(format!(
                "option `{option}` is not one of k, v, kv, fixed, gradual"
            ));
        }
    }
    Ok(())
}

impl fmt::Display for ModeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mode {
            Mode::Full => f.write_str("full"),
            Mode::Reuse => f.write_str("reuse"),
            Mode::Blend {
                policy: Policy::All,
                ..
            } => f.write_str("all"),
            Mode::Blend { policy, ratio } => {
                f.write_str(policy.name())?;
                fmt_settings(policy, f)?;
                write!(f, ":{ratio}")
            }
        }
    }
}

fn fmt_settings(policy: &Policy, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match policy {
        Policy::Hkvd {
            check_layer,
            deviation,
            schedule,
        } => {
            write!(f, "@{check_layer}")?;
            f.write_str(match deviation {
                Deviation::K => "/k",
                Deviation::V => "/v",
                Deviation::Kv => "",
            })?;
            f.write_str(match schedule {
                Schedule::Fixed => "",
                Schedule::Gradual => "/gradual",
            })
        }
        Policy::Random { seed: 0 } | Policy::FirstK | Policy::All => Ok(()),
        Policy::Random { seed } => write!(f, "@{seed}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> ModeSpec {
        text.parse().unwrap()
    }

    #[test]
    fn specs_are_printed_as_they_are_read() {
        for text in [
            "full",
            "reuse",
            "all",
            "hkvd@2:0.1",
            "hkvd@1/k/gradual:0.2",
            "hkvd@0/v:0.05",
            "first-k:0.15",
            "random:0.1",
            "random@7:0.1",
        ] {
            assert_eq!(spec(text).to_string(), text);
        }
        assert_eq!(spec("hkvd:0.1"), spec("hkvd@1/kv/fixed:0.1"));
    }

    #[test]
    fn bad_specs_are_refused_with_the_reason() {
        for (text, reason) in [
            ("", "ratio"),
            ("hkvd", "ratio"),
            ("hkvd@2:", "not a number"),
            ("hkvd@x:0.1", "whole number"),
            ("hkvd/q:0.1", "option `q`"),
            ("first-k@1:0.1", "takes no `@`"),
            ("first-k/k:0.1", "only hkvd"),
            ("random:1.5", "between 0 and 1"),
            ("random:NaN", "between 0 and 1"),
            ("best:0.1", "`best`"),
        ] {
            let error = text.parse::<ModeSpec>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn the_default_modes_leave_out_check_layers_the_model_lacks() {
        assert_eq!(ModeSpec::defaults(4).len(), 2 + 4 * 4);
        let of_two_layers = ModeSpec::defaults(2);
        assert_eq!(of_two_layers.len(), 2 + 3 * 4);
        assert!(
            of_two_layers
                .iter()
                .all(|spec| spec.fields().check_layer != Some(2))
        );
    }

    #[test]
    fn random_rows_differ_between_prompts_only() {
        assert_ne!(
            spec("random:0.1").mode_for(0),
            spec("random:0.1").mode_for(1)
        );
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
