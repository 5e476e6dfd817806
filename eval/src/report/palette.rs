//! Which policies a report names, in what order and look, and how they share panels. One policy
//! looks the same in every chart.

use super::chart::style::Style;
use super::mode::ModeName;

/// More lines than this in one panel would be hard to tell apart.
const LINES_PER_PANEL: usize = 6;

/// The kinds of policy in the order of panels and tables: how their names begin, and their title.
/// The limits choose no rows. The last two are for policies that no name here begins.
const FAMILIES: [(&[&str], &str); 9] = [
    (&["full", "reuse", "all"], "limits"),
    (&["hkvd"], "hkvd"),
    (&["first-k"], "first-k"),
    (&["query"], "query"),
    (&["anchors"], "anchors"),
    (&["random"], "random"),
    (&["oracle"], "oracle"),
    (&[], "unions"),
    (&[], "other policies"),
];
const UNIONS: usize = 7;
const OTHERS: usize = 8;

/// A policy's place among the families.
fn family(policy: &str) -> usize {
    let name = policy.split(['@', '/', '~']).next().unwrap_or_default();
    let mut families = FAMILIES.iter();
    match policy.contains('+') {
        true => UNIONS,
        false => families
            .position(|(names, _)| names.contains(&name))
            .unwrap_or(OTHERS),
    }
}

/// Sorts policies: limits first, then by family, plain before modified.
fn order(policy: &str) -> (usize, u8, bool, &str) {
    let limit = match policy {
        "full" => 0,
        "reuse" => 1,
        _ => 2,
    };
    (family(policy), limit, policy.contains('~'), policy)
}

/// Whether a policy can answer requests: an oracle needs the full prefill it replaces.
pub(crate) fn can_serve(policy: &str) -> bool {
    let mut members = policy.split('+');
    members.all(|member| FAMILIES[family(member)].1 != "oracle")
}

/// Policies that share a panel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) policies: Vec<String>,
    /// One of several groups of a large family; no other family joins it.
    part: bool,
}

impl Group {
    fn new(title: &str, policies: &[&str], part: bool) -> Self {
        Self {
            title: title.to_owned(),
            policies: policies.iter().map(|&policy| policy.to_owned()).collect(),
            part,
        }
    }
}

/// The policies of a report with their looks.
#[derive(Debug)]
pub(crate) struct Palette {
    policies: Vec<String>,
}

impl Palette {
    pub(crate) fn new(policies: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut policies: Vec<String> = policies.into_iter().map(Into::into).collect();
        policies.sort_by(|one, other| order(one).cmp(&order(other)));
        policies.dedup();
        Self { policies }
    }

    /// In the report's order.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().map(String::as_str)
    }

    /// A key that sorts modes: by policy, then by ratio.
    pub(crate) fn rank(&self, mode: &ModeName) -> (usize, u64) {
        let place = self.policies().position(|policy| policy == mode.policy);
        // Ratios are not negative, and such floats sort as their bits.
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
            let earlier = modes[..n].iter();
            let earlier = earlier.filter(|other| other.policy == mode.policy);
            self.style(&mode.policy).variant(earlier.count())
        };
        modes.iter().enumerate().map(style).collect()
    }

    /// The policies in panels: all in one where they are few, else by family, where small
    /// neighbours share and large families are split evenly.
    pub(crate) fn groups(policies: &[&str]) -> Vec<Group> {
        if policies.len() <= LINES_PER_PANEL {
            return vec![Group::new("", policies, false)];
        }
        let mut groups: Vec<Group> = Vec::new();
        for members in policies.chunk_by(|one, other| family(one) == family(other)) {
            let name = FAMILIES[family(members[0])].1;
            match groups.last_mut() {
                Some(last)
                    if !last.part && last.policies.len() + members.len() <= LINES_PER_PANEL =>
                {
                    last.title = format!("{}, {name}", last.title);
                    last.policies
                        .extend(members.iter().map(|&policy| policy.to_owned()));
                }
                _ => groups.extend(split(name, members)),
            }
        }
        groups
    }
}

/// The members of a family in as many groups as they need.
fn split(name: &str, members: &[&str]) -> Vec<Group> {
    let parts = members.len().div_ceil(LINES_PER_PANEL);
    let size = members.len().div_ceil(parts.max(1));
    let part = |(n, policies): (usize, &[&str])| match parts {
        1 => Group::new(name, policies, false),
        _ => Group::new(&format!("{name} ({} of {parts})", n + 1), policies, true),
    };
    members.chunks(size.max(1)).enumerate().map(part).collect()
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
