//! Which policies a report names, in what order and look, and how they share panels. One policy
//! looks the same in every chart.

use super::chart::style::Style;
use super::record::ModeName;

/// Lines that one panel holds without becoming a thicket.
const LINES_PER_PANEL: usize = 6;

/// What a policy is a kind of; the order of panels and tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    /// `full`, `reuse` and `all`: no choice of rows.
    Limit,
    Hkvd,
    FirstK,
    Query,
    Anchors,
    Random,
    Oracle,
    Union,
    Other,
}

impl Family {
    fn of(policy: &str) -> Self {
        if policy.contains('+') {
            return Self::Union;
        }
        match policy.split(['@', '/', '~']).next().unwrap_or_default() {
            "full" | "reuse" | "all" => Self::Limit,
            "hkvd" => Self::Hkvd,
            "first-k" => Self::FirstK,
            "query" => Self::Query,
            "anchors" => Self::Anchors,
            "random" => Self::Random,
            "oracle" => Self::Oracle,
            _ => Self::Other,
        }
    }

    /// Whether such a policy can answer requests: an oracle needs the full prefill it replaces.
    fn can_serve(self) -> bool {
        self != Self::Oracle
    }

    fn name(self) -> &'static str {
        match self {
            Self::Limit => "limits",
            Self::Hkvd => "hkvd",
            Self::FirstK => "first-k",
            Self::Query => "query",
            Self::Anchors => "anchors",
            Self::Random => "random",
            Self::Oracle => "oracle",
            Self::Union => "unions",
            Self::Other => "other policies",
        }
    }
}

/// Where a policy stands among others: limits first, then by family, plain before modified.
fn order(policy: &str) -> (Family, u8, bool, &str) {
    let limit = match policy {
        "full" => 0,
        "reuse" => 1,
        _ => 2,
    };
    (Family::of(policy), limit, policy.contains('~'), policy)
}

/// Whether a policy can answer requests.
pub(crate) fn can_serve(policy: &str) -> bool {
    let mut members = policy.split('+');
    members.all(|member| Family::of(member).can_serve())
}

/// Policies that share a panel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) policies: Vec<String>,
    /// One of several groups of a large family; no other family joins it.
    part: bool,
}

/// The policies of a report with their looks.
#[derive(Debug)]
pub(crate) struct Palette {
    policies: Vec<String>,
}

impl Palette {
    pub(crate) fn new<'a>(policies: impl IntoIterator<Item = &'a str>) -> Self {
        let mut policies: Vec<String> = policies.into_iter().map(str::to_owned).collect();
        policies.sort_by(|one, other| order(one).cmp(&order(other)));
        policies.dedup();
        Self { policies }
    }

    /// In the report's order.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().map(String::as_str)
    }

    /// A number that sorts modes: by policy, then by ratio.
    pub(crate) fn rank(&self, mode: &ModeName) -> (usize, u64) {
        let place = self.policies().position(|policy| policy == mode.policy);
        // Ratios are not negative, and such floats sort as their bits do.
        let ratio = mode.ratio.unwrap_or(0.0).max(0.0).to_bits();
        (place.unwrap_or(usize::MAX), ratio)
    }

    pub(crate) fn style(&self, policy: &str) -> Style {
        match policy {
            "full" => Style::FULL,
            "reuse" => Style::REUSE,
            _ => {
                let chosen = |name: &&str| !matches!(*name, "full" | "reuse");
                let place = self
                    .policies()
                    .filter(chosen)
                    .position(|name| name == policy);
                Style::nth(place.unwrap_or(0))
            }
        }
    }

    /// The look of each mode: where one policy has several ratios, they differ in markers and dash.
    pub(crate) fn mode_styles(&self, modes: &[ModeName]) -> Vec<Style> {
        let style = |(n, mode): (usize, &ModeName)| {
            let earlier = modes[..n]
                .iter()
                .filter(|other| other.policy == mode.policy);
            self.style(&mode.policy).variant(earlier.count())
        };
        modes.iter().enumerate().map(style).collect()
    }

    /// The policies in panels: all in one where they are few, else by family, where small
    /// neighbours share and large families are split evenly.
    pub(crate) fn groups(policies: &[&str]) -> Vec<Group> {
        if policies.len() <= LINES_PER_PANEL {
            let title = String::new();
            let policies = policies.iter().map(|&policy| policy.to_owned()).collect();
            return vec![Group {
                title,
                policies,
                part: false,
            }];
        }
        let mut groups: Vec<Group> = Vec::new();
        for family in policies.chunk_by(|one, other| Family::of(one) == Family::of(other)) {
            let name = Family::of(family[0]).name();
            match groups.last_mut() {
                Some(last)
                    if !last.part && last.policies.len() + family.len() <= LINES_PER_PANEL =>
                {
                    last.title = format!("{}, {name}", last.title);
                    last.policies
                        .extend(family.iter().map(|&policy| policy.to_owned()));
                }
                _ => groups.extend(split(name, family)),
            }
        }
        groups
    }
}

fn split(name: &str, family: &[&str]) -> Vec<Group> {
    let parts = family.len().div_ceil(LINES_PER_PANEL);
    let size = family.len().div_ceil(parts.max(1));
    let part = |(n, policies): (usize, &[&str])| Group {
        title: match parts {
            1 => name.to_owned(),
            _ => format!("{name} ({} of {parts})", n + 1),
        },
        policies: policies.iter().map(|&policy| policy.to_owned()).collect(),
        part: parts > 1,
    };
    family.chunks(size.max(1)).enumerate().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: [&str; 12] = [
        "random",
        "hkvd@1",
        "hkvd@2",
        "hkvd@2~mean",
        "hkvd@3",
        "hkvd@2/k",
        "hkvd@2/v",
        "hkvd@2/gradual",
        "first-k",
        "query/all",
        "first-k+query/all",
        "oracle",
    ];

    #[test]
    fn policies_stand_by_family_and_modified_ones_after_plain_ones() {
        let palette = Palette::new(["query", "hkvd@1~mean", "reuse", "hkvd@2", "full", "query"]);
        let order: Vec<&str> = palette.policies().collect();
        assert_eq!(order, ["full", "reuse", "hkvd@2", "hkvd@1~mean", "query"]);
    }

    #[test]
    fn every_policy_is_in_one_group_and_no_group_is_crowded() {
        let palette = Palette::new(MANY);
        let policies: Vec<&str> = palette.policies().collect();
        let groups = Palette::groups(&policies);
        let grouped: Vec<&str> = groups
            .iter()
            .flat_map(|group| group.policies.iter().map(String::as_str))
            .collect();
        assert_eq!(grouped, policies);
        let titles: Vec<&str> = groups.iter().map(|group| group.title.as_str()).collect();
        assert_eq!(
            titles,
            [
                "hkvd (1 of 2)",
                "hkvd (2 of 2)",
                "first-k, query, random, oracle, unions"
            ]
        );
    }

    #[test]
    fn few_policies_share_one_panel() {
        let groups = Palette::groups(&["hkvd@2", "random"]);
        assert_eq!(groups.len(), 1);
    }

    #[test]
    fn ratios_of_one_policy_look_different() {
        let palette = Palette::new(["hkvd@2", "full"]);
        let mode = |ratio| ModeName {
            policy: "hkvd@2".to_owned(),
            ratio: Some(ratio),
        };
        let styles = palette.mode_styles(&[mode(0.05), mode(0.15)]);
        assert_eq!(styles[0].colour, styles[1].colour);
        assert_ne!(styles[0].hollow, styles[1].hollow);
        assert_ne!(styles[0].dash, styles[1].dash);
    }
}
