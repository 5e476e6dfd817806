//! Which policies are put side by side.

use anyhow::Context as _;
use ragweave_engine::{Mode, Policy, Ratio, Selection};

use crate::mode_spec::ModeSpec;

/// Every policy and the variants that literature argues about.
const POLICIES: [&str; 13] = [
    "first-k",
    "first-k~mean",
    "query",
    "query/all",
    "query/all/max",
    "query/all~score",
    "query/all~mean",
    "anchors",
    "random",
    "random~mean",
    "oracle",
    "first-k+query/all",
    "first-k+random",
];
/// Those that compare at a check layer, each at the layers below.
const CHECKED: [&str; 5] = [
    "hkvd@{}",
    "hkvd@{}/k",
    "hkvd@{}/v",
    "hkvd@{}/gradual",
    "first-k+hkvd@{}",
];
/// Variants of the deepest check layer only.
const DEEPEST: [&str; 2] = ["hkvd@{}~score", "hkvd@{}~mean"];
/// Check layers, as far as the model has them.
const CHECK_LAYERS: [usize; 2] = [1, 2];

/// Full and reuse, then each of the policies asked for, or all of them, at each ratio.
pub(super) fn specs(
    asked: &[String],
    ratios: &[f64],
    n_layers: usize,
) -> anyhow::Result<Vec<ModeSpec>> {
    let selections = match asked {
        [] => defaults(n_layers),
        asked => asked.to_vec(),
    };
    let mut specs = vec![ModeSpec::new(Mode::Full), ModeSpec::new(Mode::Reuse)];
    for selection in &selections {
        for &ratio in ratios {
            let mode = blend(selection, ratio, n_layers).context("--policies")?;
            specs.push(ModeSpec::new(mode));
        }
    }
    Ok(specs)
}

fn defaults(n_layers: usize) -> Vec<String> {
    let layers = CHECK_LAYERS.into_iter().filter(|&layer| layer < n_layers);
    let at = |pattern: &str, layer: usize| pattern.replace("{}", &layer.to_string());
    let checked = layers.flat_map(|layer| CHECKED.map(|pattern| at(pattern, layer)));
    let deepest = CHECK_LAYERS.into_iter().rfind(|&layer| layer < n_layers);
    let deepest = deepest.into_iter();
    let deepest = deepest.flat_map(|layer| DEEPEST.map(|pattern| at(pattern, layer)));
    let plain = POLICIES.map(str::to_owned);
    checked.chain(deepest).chain(plain).collect()
}

/// Checked against the model, so that a typing error does not cost an hour.
fn blend(selection: &str, ratio: f64, n_layers: usize) -> anyhow::Result<Mode> {
    let selection: Selection = selection.parse()?;
    let is_all = selection.policy == Policy::All;
    let mode = Mode::blend(selection, Ratio::new(ratio)?);
    mode.clone().normalised(n_layers)?;
    anyhow::ensure!(
        !is_all,
        "`all` has no ratio; it is full prefill through the fused path"
    );
    Ok(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_measured_at_every_ratio() {
        let selections = defaults(4);
        assert_eq!(selections.len(), 2 * 5 + 2 + 13);
        assert!(selections.contains(&"hkvd@2~mean".to_owned()));
        let specs = specs(&[], &[0.1, 0.2], 4).unwrap();
        assert_eq!(specs.len(), 2 + 2 * selections.len());
        assert_eq!(specs[2].to_string(), "hkvd@1:0.1");
    }

    #[test]
    fn a_shallow_model_has_no_deep_check() {
        let selections = defaults(2);
        assert!(selections.iter().all(|selection| !selection.contains("@2")));
        assert!(selections.contains(&"hkvd@1~score".to_owned()));
    }

    #[test]
    fn a_policy_that_cannot_be_is_refused_at_once() {
        for (policy, reason) in [
            ("best", "known are hkvd, first-k"),
            ("hkvd@4", "too deep"),
            ("hkvd~even", "~even"),
        ] {
            let error = specs(&[policy.to_owned()], &[0.5], 4).unwrap_err();
            let error = format!("{error:#}");
            assert!(
                error.contains(reason) && error.contains("--policies"),
                "{error}"
            );
        }
    }
}
