//! How modes and policies are written, in flags, configuration, requests and results.
//!
//! ```text
//! mode     = "full" | "reuse" | "all" | policies { "~" modifier } ":" ratio
//! policies = policy { "+" policy }                               a union under one budget
//! policy   = "hkvd" [ "@" layer ] { "/" ( "k" | "v" | "kv" | "fixed" | "gradual" ) }
//!          | "first-k"
//!          | "query" { "/" ( "last" | "all" | "mean" | "max" | "final" ) }
//!          | "anchors" [ "@" layer { "." layer } ] { "/" ( "mean" | "max" | "final" ) }
//!          | "random" [ "@" seed ]
//!          | "oracle" { "/" ( "k" | "v" | "kv" ) }
//! modifier = "length" | "score" | "mean"
//! ```
//!
//! What is left out has its default, and printing leaves it out again.

use std::fmt;
use std::str::FromStr;

use super::blend::{Blend, Budget, Correction, Mode};
use super::policy::{Deviation, Policy, Pooling, QueryLayers, Schedule};

/// The layer `hkvd` compares at where nothing is said.
const DEFAULT_CHECK_LAYER: usize = 1;

/// A mode or policy that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}`: {problem}; write for example full, reuse, hkvd@2:0.1, first-k:0.15, \
     first-k+query/all~score:0.05"
)]
pub struct BadNotation {
    text: String,
    problem: String,
}

impl FromStr for Mode {
    type Err = BadNotation;

    fn from_str(text: &str) -> Result<Self, BadNotation> {
        parse_mode(text).map_err(|problem| BadNotation {
            text: text.to_owned(),
            problem,
        })
    }
}

impl FromStr for Policy {
    type Err = BadNotation;

    /// Reads policies without modifiers and ratio, such as `hkvd@2` or `first-k+query`.
    fn from_str(text: &str) -> Result<Self, BadNotation> {
        let policy = match text {
            "all" => Ok(Self::All),
            _ => parse_policies(text),
        };
        policy.map_err(|problem| BadNotation {
            text: text.to_owned(),
            problem,
        })
    }
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    match text {
        "full" => return Ok(Mode::Full),
        "reuse" => return Ok(Mode::Reuse),
        "all" => return Ok(Mode::blend(Policy::All, 1.0)),
        _ => {}
    }
    let (selection, ratio) = text.rsplit_once(':').ok_or("`:` and a ratio are missing")?;
    let mut parts = selection.split('~');
    let policy = parse_policies(parts.next().unwrap_or_default())?;
    let mut blend = Blend::new(policy, parse_ratio(ratio)?);
    for modifier in parts {
        match modifier {
            "length" => blend.budget = Budget::Length,
            "score" => blend.budget = Budget::Score,
            "mean" => blend.correction = Correction::Mean,
            _ => {
                return Err(format!(
                    "`~{modifier}` is not one of ~length, ~score, ~mean"
                ));
            }
        }
    }
    Ok(Mode::Blend(blend))
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text
        .trim()
        .parse()
        .map_err(|_| format!("the ratio `{text}` is not a number"))?;
    match (0.0..=1.0).contains(&ratio) {
        true => Ok(ratio),
        false => Err(format!("the ratio {ratio} is not between 0 and 1")),
    }
}

fn parse_policies(text: &str) -> Result<Policy, String> {
    let mut policies: Vec<Policy> = text
        .split('+')
        .map(parse_policy)
        .collect::<Result<_, _>>()?;
    Ok(match policies.len() {
        1 => policies.remove(0),
        _ => Policy::Union(policies),
    })
}

fn parse_policy(text: &str) -> Result<Policy, String> {
    let mut options = text.split('/');
    let head = options.next().unwrap_or_default();
    let (name, argument) = match head.split_once('@') {
        Some((name, argument)) => (name, Some(argument)),
        None => (head, None),
    };
    let mut policy = policy_named(name)?;
    if let Some(argument) = argument {
        set_argument(&mut policy, argument)?;
    }
    for option in options {
        set_option(&mut policy, option)?;
    }
    Ok(policy)
}

/// A policy with its defaults.
fn policy_named(name: &str) -> Result<Policy, String> {
    Ok(match name {
        "hkvd" => Policy::hkvd(DEFAULT_CHECK_LAYER),
        "first-k" => Policy::FirstK,
        "query" => Policy::Query {
            layers: QueryLayers::Last,
            pooling: Pooling::Mean,
        },
        "anchors" => Policy::Anchors {
            layers: Vec::new(),
            pooling: Pooling::Mean,
        },
        "random" => Policy::Random { seed: 0 },
        "oracle" => Policy::Oracle {
            deviation: Deviation::Kv,
        },
        _ => {
            return Err(format!(
                "`{name}` is not a policy; known are hkvd, first-k, query, anchors, random, oracle"
            ));
        }
    })
}

fn set_argument(policy: &mut Policy, argument: &str) -> Result<(), String> {
    match policy {
        Policy::Hkvd { check_layer, .. } => *check_layer = parse_number(argument)?,
        Policy::Random { seed } => *seed = parse_number(argument)?,
        Policy::Anchors { layers, .. } => {
            *layers = argument
                .split('.')
                .map(parse_number)
                .collect::<Result<_, _>>()?;
        }
        _ => return Err(format!("{} takes no `@`", policy.name())),
    }
    Ok(())
}

fn parse_number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("`{text}` after `@` is not a whole number"))
}

fn set_option(policy: &mut Policy, option: &str) -> Result<(), String> {
    let name = policy.name();
    let known = match policy {
        Policy::Hkvd {
            deviation,
            schedule,
            ..
        } => set(deviation, &DEVIATIONS, option) || set(schedule, &SCHEDULES, option),
        Policy::Query { layers, pooling } => {
            set(layers, &QUERY_LAYERS, option) || set(pooling, &POOLINGS, option)
        }
        Policy::Anchors { pooling, .. } => set(pooling, &POOLINGS, option),
        Policy::Oracle { deviation } => set(deviation, &DEVIATIONS, option),
        Policy::FirstK | Policy::Random { .. } | Policy::Union(_) | Policy::All => false,
    };
    match known {
        true => Ok(()),
        false => Err(format!("`/{option}` is not an option of {name}")),
    }
}

type Names<T> = [(&'static str, T)];

const DEVIATIONS: [(&str, Deviation); 3] = [
    ("kv", Deviation::Kv),
    ("k", Deviation::K),
    ("v", Deviation::V),
];
const SCHEDULES: [(&str, Schedule); 2] =
    [("fixed", Schedule::Fixed), ("gradual", Schedule::Gradual)];
const QUERY_LAYERS: [(&str, QueryLayers); 2] =
    [("last", QueryLayers::Last), ("all", QueryLayers::All)];
const POOLINGS: [(&str, Pooling); 3] = [
    ("mean", Pooling::Mean),
    ("max", Pooling::Max),
    ("final", Pooling::Final),
];

/// Sets the value of this name; `false` where there is none.
fn set<T: Copy>(value: &mut T, names: &Names<T>, name: &str) -> bool {
    let found = names.iter().find(|(known, _)| *known == name);
    if let Some((_, named)) = found {
        *value = *named;
    }
    found.is_some()
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Reuse => f.write_str("reuse"),
            Self::Blend(Blend {
                policy: Policy::All,
                ..
            }) => f.write_str("all"),
            Self::Blend(blend) => {
                let ratio = blend.ratio;
                write!(f, "{}:{ratio}", blend.selection())
            }
        }
    }
}

impl Blend {
    /// The notation without the ratio: what names a method in results.
    pub fn selection(&self) -> String {
        let budget = match self.budget {
            Budget::Prompt => "",
            Budget::Length => "~length",
            Budget::Score => "~score",
        };
        let correction = match self.correction {
            Correction::None => "",
            Correction::Mean => "~mean",
        };
        format!("{}{budget}{correction}", self.policy)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Union(policies) = self {
            let names: Vec<String> = policies.iter().map(Self::to_string).collect();
            return f.write_str(&names.join("+"));
        }
        f.write_str(self.name())?;
        match self {
            Self::Hkvd {
                check_layer,
                deviation,
                schedule,
            } => {
                write!(f, "@{check_layer}")?;
                option(f, deviation, &DEVIATIONS)?;
                option(f, schedule, &SCHEDULES)
            }
            Self::Query { layers, pooling } => {
                option(f, layers, &QUERY_LAYERS)?;
                option(f, pooling, &POOLINGS)
            }
            Self::Anchors { layers, pooling } => {
                let layers: Vec<String> = layers.iter().map(usize::to_string).collect();
                if !layers.is_empty() {
                    write!(f, "@{}", layers.join("."))?;
                }
                option(f, pooling, &POOLINGS)
            }
            Self::Random { seed } if *seed != 0 => write!(f, "@{seed}"),
            Self::Oracle { deviation } => option(f, deviation, &DEVIATIONS),
            Self::FirstK | Self::Random { .. } | Self::Union(_) | Self::All => Ok(()),
        }
    }
}

/// Writes `/name`, unless the value is the first of its list: the default.
fn option<T: PartialEq>(f: &mut fmt::Formatter<'_>, value: &T, names: &Names<T>) -> fmt::Result {
    let mut others = names.iter().skip(1);
    match others.find(|(_, named)| named == value) {
        Some((name, _)) => write!(f, "/{name}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_printed_as_they_are_read() {
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
            "query:0.1",
            "query/all/max:0.1",
            "anchors:0.1",
            "anchors@1.3/final:0.1",
            "oracle/v:0.3",
            "first-k+query/all~score~mean:0.05",
            "hkvd@2~length:0.1",
        ] {
            assert_eq!(text.parse::<Mode>().unwrap().to_string(), text);
        }
        let [short, long] = ["hkvd:0.1", "hkvd@1/kv/fixed:0.1"].map(str::parse::<Mode>);
        assert_eq!(short, long);
        assert_eq!(
            "first-k+hkvd@2".parse::<Policy>().unwrap().to_string(),
            "first-k+hkvd@2"
        );
        assert_eq!("all".parse(), Ok(Policy::All));
    }

    #[test]
    fn bad_notation_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "ratio are missing"),
            ("hkvd", "ratio are missing"),
            ("hkvd@2:", "not a number"),
            ("hkvd@x:0.1", "whole number"),
            ("hkvd/q:0.1", "`/q` is not an option of hkvd"),
            ("first-k@1:0.1", "first-k takes no `@`"),
            ("first-k/k:0.1", "not an option of first-k"),
            ("query/k:0.1", "not an option of query"),
            ("anchors@1.:0.1", "whole number"),
            ("random:1.5", "between 0 and 1"),
            ("random:NaN", "between 0 and 1"),
            (
                "best:0.1",
                "known are hkvd, first-k, query, anchors, random, oracle",
            ),
            ("hkvd+:0.1", "`` is not a policy"),
            ("hkvd~even:0.1", "`~even` is not one of"),
        ] {
            let error = text.parse::<Mode>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
