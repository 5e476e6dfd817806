//! Which modes a bench puts side by side.

use ragweave_engine::{Mode, Policy};
use ragweave_server::config::PolicyKind;

use crate::mode_spec::{self, ModeSpec};

/// Full and reuse, then every policy at every ratio. `all` recomputes everything at any ratio and
/// comes once.
pub(super) fn specs(policies: &[PolicyKind], ratios: &[f64], check_layer: usize) -> Vec<ModeSpec> {
    let mut modes = vec![Mode::Full, Mode::Reuse];
    for &kind in policies {
        let policy = policy(kind, check_layer);
        let ratios = if policy == Policy::All {
            &[1.0]
        } else {
            ratios
        };
        let blend = |&ratio| Mode::Blend {
            policy: policy.clone(),
            ratio,
        };
        modes.extend(ratios.iter().map(blend));
    }
    modes.into_iter().map(ModeSpec::new).collect()
}

fn policy(kind: PolicyKind, check_layer: usize) -> Policy {
    match kind {
        PolicyKind::Hkvd => mode_spec::hkvd(check_layer),
        PolicyKind::FirstK => Policy::FirstK,
        PolicyKind::Random => Policy::Random { seed: 0 },
        PolicyKind::All => Policy::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_comes_first_and_each_policy_runs_at_each_ratio() {
        let kinds = [PolicyKind::Hkvd, PolicyKind::All, PolicyKind::FirstK];
        let names: Vec<String> = specs(&kinds, &[0.05, 0.15], 2)
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
