//! How modes, selections and policies are written, in flags, configuration, requests and results.
//!
//! ```text
//! mode      = "full" | "reuse" | "all" | selection ":" ratio
//! selection = "all" | policies { "~" modifier }
//! policies  = policy { "+" policy }                              a union under one budget
//! policy    = "hkvd" [ "@" layer ] { "/" ( "k" | "v" | "kv" | "fixed" | "gradual" ) }
//!           | "first-k"
//!           | "query" { "/" ( "last" | "all" | "mean" | "max" | "final" ) }
//!           | "anchors" [ "@" layer { "." layer } ] { "/" ( "mean" | "max" | "final" ) }
//!           | "random" [ "@" seed ]
//!           | "oracle" { "/" ( "k" | "v" | "kv" ) }
//! modifier  = "length" | "score" | "mean"
//! ```
//!
//! What is left out takes its default. Printing leaves defaults out again.

use std::fmt;
use std::str::FromStr;

use super::blend::{Blend, Mode, PartialBlend};
use super::ratio::Ratio;
use super::selection::{
    Budget, Correction, Deviation, Policy, Pooling, QueryLayers, Schedule, Selection,
};

/// The layer at which a bare `hkvd` compares.
const DEFAULT_CHECK_LAYER: usize = 1;

/// Text that is not in the notation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {problem}")]
pub struct BadNotation {
    text: String,
    problem: String,
}

/// Implements `FromStr` with the function that reads the text.
macro_rules! read_by {
    ($type:ty, $read:ident) => {
        impl FromStr for $type {
            type Err = BadNotation;

            fn from_str(text: &str) -> Result<Self, BadNotation> {
                $read(text).map_err(|problem| BadNotation {
                    text: text.to_owned(),
                    problem,
                })
            }
        }
    };
}

read_by!(Mode, read_mode);
read_by!(PartialBlend, read_partial_blend);
read_by!(Selection, read_selection);
read_by!(Policy, read_policies);

fn read_mode(text: &str) -> Result<Mode, String> {
    match text {
        "full" => Ok(Mode::Full),
        "reuse" => Ok(Mode::Reuse),
        "all" => Ok(Mode::blend(Policy::All, Ratio::ONE)),
        _ => {
            let PartialBlend { selection, ratio } = read_partial_blend(text)?;
            let ratio = ratio.ok_or(
                "`:` and a ratio are missing; write for example full, reuse, hkvd@2:0.1, \
                 first-k+query/all~score:0.05",
            )?;
            Ok(Mode::blend(selection, ratio))
        }
    }
}

/// A selection with or without its ratio.
fn read_partial_blend(text: &str) -> Result<PartialBlend, String> {
    if matches!(text, "full" | "reuse") {
        return Err(format!("selects no tokens; write it as mode `{text}`"));
    }
    let (head, ratio) = match text.rsplit_once(':') {
        Some((head, ratio)) => (head, Some(read_ratio(ratio)?)),
        None => (text, None),
    };
    let mut parts = head.split('~');
    let policy = read_policies(parts.next().unwrap_or_default())?;
    if policy == Policy::All && text != "all" {
        return Err("all recomputes everything and takes neither modifiers nor a ratio".to_owned());
    }
    let mut selection = Selection::new(policy);
    for modifier in parts {
        modify(&mut selection, modifier)?;
    }
    Ok(PartialBlend { selection, ratio })
}

fn read_selection(text: &str) -> Result<Selection, String> {
    match read_partial_blend(text)? {
        PartialBlend {
            selection,
            ratio: None,
        } => Ok(selection),
        PartialBlend {
            ratio: Some(ratio), ..
        } => Err(format!(
            "the ratio is a setting of its own; write ratio = {ratio}"
        )),
    }
}

fn read_ratio(text: &str) -> Result<Ratio, String> {
    text.parse().map_err(|error| format!("the ratio {error}"))
}

fn modify(selection: &mut Selection, modifier: &str) -> Result<(), String> {
    match modifier {
        "length" => selection.budget = Budget::Length,
        "score" => selection.budget = Budget::Score,
        "mean" => selection.correction = Correction::Mean,
        _ => {
            return Err(format!(
                "`~{modifier}` is not one of ~length, ~score, ~mean"
            ));
        }
    }
    Ok(())
}

/// Policies without modifiers and ratio, such as `hkvd@2` or `first-k+query`.
fn read_policies(text: &str) -> Result<Policy, String> {
    if text == "all" {
        return Ok(Policy::All);
    }
    let mut policies: Vec<Policy> = text.split('+').map(read_policy).collect::<Result<_, _>>()?;
    Ok(match policies.len() {
        1 => policies.remove(0),
        _ => Policy::Union(policies),
    })
}

fn read_policy(text: &str) -> Result<Policy, String> {
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
        Policy::Hkvd { check_layer, .. } => *check_layer = read_number(argument)?,
        Policy::Random { seed } => *seed = read_number(argument)?,
        Policy::Anchors { layers, .. } => {
            *layers = argument
                .split('.')
                .map(read_number)
                .collect::<Result<_, _>>()?;
        }
        _ => return Err(format!("{} takes no `@`", policy.name())),
    }
    Ok(())
}

fn read_number<T: FromStr>(text: &str) -> Result<T, String> {
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

/// Sets `value` to the one called `name`; `false` if there is none.
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
            Self::Blend(blend) => blend.fmt(f),
        }
    }
}

impl fmt::Display for Blend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.selection.policy {
            Policy::All => f.write_str("all"),
            _ => write!(f, "{}:{}", self.selection, self.ratio),
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let budget = match self.budget {
            Budget::Prompt => "",
            Budget::Length => "~length",
            Budget::Score => "~score",
        };
        let correction = match self.correction {
            Correction::None => "",
            Correction::Mean => "~mean",
        };
        write!(f, "{}{budget}{correction}", self.policy)
    }
}

impl TryFrom<String> for Mode {
    type Error = BadNotation;

    fn try_from(text: String) -> Result<Self, BadNotation> {
        text.parse()
    }
}

impl TryFrom<String> for Selection {
    type Error = BadNotation;

    fn try_from(text: String) -> Result<Self, BadNotation> {
        text.parse()
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        mode.to_string()
    }
}

impl From<Selection> for String {
    fn from(selection: Selection) -> Self {
        selection.to_string()
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
mod tests;
