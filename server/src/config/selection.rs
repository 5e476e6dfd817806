//! Which context tokens are recomputed, as configuration, flags and requests write it: the engine's notation, of which
//! parts may be left to other keys.

use std::str::FromStr;

use ragweave_engine::{BadNotation, Budget, Correction, Deviation, Policy, Schedule};

/// Policies with what the notation says of budget, correction and ratio; `None` is left to the keys of those names.
///
/// A bare `hkvd` or `random`, alone or in a union, leaves its settings to keys as well.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    members: Vec<Member>,
    budget: Option<Budget>,
    correction: Option<Correction>,
    ratio: Option<f64>,
}

/// One policy of the union, or the only one.
#[derive(Debug, Clone, PartialEq)]
struct Member {
    policy: Policy,
    /// Its name alone was written.
    is_bare: bool,
}

/// Settings of `hkvd` and `random`; `None` keeps what is there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    pub check_layer: Option<usize>,
    pub deviation: Option<Deviation>,
    pub schedule: Option<Schedule>,
    pub seed: Option<u64>,
}

/// A selection that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSelection {
    #[error(transparent)]
    Notation(#[from] BadNotation),
    #[error("`{text}` names no policy; write it as mode `{text}`")]
    NotAPolicy { text: String },
    #[error("`{text}`: `~{modifier}` is not one of ~length, ~score, ~mean")]
    Modifier { text: String, modifier: String },
    #[error("`{text}`: the ratio `{ratio}` is not a number between 0 and 1")]
    Ratio { text: String, ratio: String },
    #[error("`{text}`: all recomputes everything and takes neither modifiers nor a ratio")]
    AllIsAlone { text: String },
}

impl FromStr for Selection {
    type Err = BadSelection;

    fn from_str(text: &str) -> Result<Self, BadSelection> {
        if matches!(text, "full" | "reuse") {
            let text = text.to_owned();
            return Err(BadSelection::NotAPolicy { text });
        }
        let (head, ratio) = match text.rsplit_once(':') {
            Some((head, ratio)) => (head, Some(parse_ratio(text, ratio)?)),
            None => (text, None),
        };
        let mut parts = head.split('~');
        let policies = parts.next().unwrap_or_default();
        let mut selection = Self {
            members: members(policies)?,
            budget: None,
            correction: None,
            ratio,
        };
        for modifier in parts {
            selection.modify(text, modifier)?;
        }
        if policies == "all" && policies != text {
            let text = text.to_owned();
            return Err(BadSelection::AllIsAlone { text });
        }
        Ok(selection)
    }
}

impl Selection {
    fn modify(&mut self, text: &str, modifier: &str) -> Result<(), BadSelection> {
        match modifier {
            "length" => self.budget = Some(Budget::Length),
            "score" => self.budget = Some(Budget::Score),
            "mean" => self.correction = Some(Correction::Mean),
            _ => {
                return Err(BadSelection::Modifier {
                    text: text.to_owned(),
                    modifier: modifier.to_owned(),
                });
            }
        }
        Ok(())
    }

    pub fn budget(&self) -> Option<Budget> {
        self.budget
    }

    pub fn correction(&self) -> Option<Correction> {
        self.correction
    }

    pub fn ratio(&self) -> Option<f64> {
        self.ratio
    }

    /// The policy, with `settings` where the notation left them open.
    pub fn completed(&self, settings: Settings) -> Policy {
        self.policy(|member| {
            if member.is_bare {
                settings
            } else {
                Settings::default()
            }
        })
    }

    /// The same selection with other settings, whatever the notation said: those of a request, which are stronger
    /// than a configured notation.
    pub fn overridden(mut self, settings: Settings) -> Self {
        for member in &mut self.members {
            settings.apply(&mut member.policy);
        }
        self
    }

    /// Refuses policies that cost more than they save.
    ///
    /// # Errors
    /// What is wrong and where such a policy belongs.
    pub fn check_servable(&self) -> Result<(), String> {
        let mut policies = self.members.iter().map(|member| &member.policy);
        match policies.find(|policy| policy.is_for_evaluation()) {
            Some(policy) => Err(format!(
                "{} needs a full prefill before it can choose, so it is for `ragweave-eval` only",
                policy.name()
            )),
            None => Ok(()),
        }
    }

    fn policy(&self, settings: impl Fn(&Member) -> Settings) -> Policy {
        let complete = |member: &Member| {
            let mut policy = member.policy.clone();
            settings(member).apply(&mut policy);
            policy
        };
        match self.members.as_slice() {
            [member] => complete(member),
            members => Policy::Union(members.iter().map(complete).collect()),
        }
    }
}

impl Settings {
    fn apply(self, policy: &mut Policy) {
        match policy {
            Policy::Hkvd {
                check_layer,
                deviation,
                schedule,
            } => {
                *check_layer = self.check_layer.unwrap_or(*check_layer);
                *deviation = self.deviation.unwrap_or(*deviation);
                *schedule = self.schedule.unwrap_or(*schedule);
            }
            Policy::Random { seed } => *seed = self.seed.unwrap_or(*seed),
            _ => {}
        }
    }
}

fn members(policies: &str) -> Result<Vec<Member>, BadSelection> {
    let policy: Policy = policies.parse()?;
    let policies_read = match policy {
        Policy::Union(policies) => policies,
        policy => vec![policy],
    };
    let members = policies.split('+').zip(policies_read);
    let member = |(written, policy): (&str, Policy)| Member {
        is_bare: written == policy.name(),
        policy,
    };
    Ok(members.map(member).collect())
}

fn parse_ratio(text: &str, ratio: &str) -> Result<f64, BadSelection> {
    let number = ratio.trim().parse().ok();
    number
        .filter(|number| (0.0..=1.0).contains(number))
        .ok_or_else(|| BadSelection::Ratio {
            text: text.to_owned(),
            ratio: ratio.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: Settings = Settings {
        check_layer: Some(3),
        deviation: Some(Deviation::V),
        schedule: Some(Schedule::Gradual),
        seed: Some(7),
    };

    fn selection(text: &str) -> Selection {
        text.parse().unwrap()
    }

    #[test]
    fn only_what_the_notation_leaves_open_is_completed() {
        for (text, completed) in [
            ("hkvd", "hkvd@3/v/gradual"),
            ("hkvd@2", "hkvd@2"),
            ("hkvd/k", "hkvd@1/k"),
            ("random", "random@7"),
            ("random@1", "random@1"),
            ("first-k+hkvd~score:0.2", "first-k+hkvd@3/v/gradual"),
            ("query/all", "query/all"),
            ("all", "all"),
        ] {
            let policy = selection(text).completed(KEYS);
            assert_eq!(policy.to_string(), completed, "{text}");
        }
    }

    #[test]
    fn modifiers_and_ratio_may_be_left_out() {
        let full = selection("first-k+query/all~score~mean:0.05");
        assert_eq!(
            (full.budget(), full.correction(), full.ratio()),
            (Some(Budget::Score), Some(Correction::Mean), Some(0.05))
        );
        let open = selection("first-k");
        assert_eq!(
            (open.budget(), open.correction(), open.ratio()),
            (None, None, None)
        );
    }

    #[test]
    fn a_request_changes_single_settings_of_a_written_policy() {
        let settings = Settings {
            check_layer: Some(4),
            ..Settings::default()
        };
        let changed = selection("hkvd@2/k").overridden(settings);
        assert_eq!(changed.completed(KEYS).to_string(), "hkvd@4/k");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (text, reason) in [
            (
                "best",
                "known are hkvd, first-k, query, anchors, random, oracle",
            ),
            ("full", "write it as mode `full`"),
            ("hkvd~even", "`~even` is not one of"),
            ("hkvd:2", "the ratio `2` is not a number between 0 and 1"),
            ("hkvd:NaN", "not a number between 0 and 1"),
            ("all~score", "takes neither modifiers nor a ratio"),
            ("all:1", "takes neither modifiers nor a ratio"),
            ("first-k+all", "`all` is not a policy"),
        ] {
            let error = text.parse::<Selection>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn the_oracle_is_not_served() {
        for text in ["oracle", "first-k+oracle/v"] {
            let refused = selection(text).check_servable().unwrap_err();
            assert!(refused.contains("ragweave-eval"), "{refused}");
        }
        assert_eq!(selection("first-k+hkvd").check_servable(), Ok(()));
    }
}
