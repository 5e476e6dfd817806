//! Which modes a bench puts side by side.

use ragweave_engine::{Mode, Policy, Ratio};

use crate::mode_spec::ModeSpec;

/// Full and reuse, then every policy at every ratio. `all` recomputes everything at any ratio and
/// comes once.
pub(super) fn specs(policies: &[Policy], ratios: &[Ratio]) -> Vec<ModeSpec> {
    let mut modes = vec![Mode::Full, Mode::Reuse];
    for policy in policies {
        let ratios = match policy {
            Policy::All => &[Ratio::ONE],
            _ => ratios,
        };
        modes.extend(
            ratios
                .iter()
                .map(|&ratio| Mode::blend(policy.clone(), ratio)),
        );
    }
    modes.into_iter().map(ModeSpec::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_comes_first_and_each_policy_runs_at_each_ratio() {
        let policies = [Policy::hkvd(2), Policy::All, Policy::FirstK];
        let names: Vec<String> = specs(&policies, &[Ratio::of_percent(5), Ratio::of_percent(15)])
            .iter()
            .map(ToString::to_string)
            .collect();
        let expected = [
            "full",
            "reuse",
            "hkvd@2:0.05",
            "hkvd@2:0.15",
            "all",
            "first-k:0.05",
            "first-k:0.15",
        ];
        assert_eq!(names, expected);
    }
}
