//! What is searched.

use anyhow::{Context as _, ensure};
use ragweave_engine::Mode;

use crate::mode_spec::ModeSpec;

/// Policies without a check layer.
const POLICIES: [&str; 8] = [
    "first-k",
    "first-k~mean",
    "query",
    "query/max",
    "query/all",
    "query/all/max",
    "first-k+query/all",
    "query/all~score",
];
/// Policies with one.
const CHECKED: [&str; 3] = ["hkvd@{}", "hkvd@{}/gradual", "hkvd@{}~mean"];

/// The policies asked for, or all of them, at every ratio.
pub(super) fn specs(
    asked: &[String],
    ratios: &[f64],
    n_layers: usize,
) -> anyhow::Result<Vec<ModeSpec>> {
    let selections = match asked {
        [] => defaults(n_layers),
        asked => asked.to_vec(),
    };
    let mut specs = Vec::new();
    for selection in &selections {
        for ratio in ratios {
            let mode = servable(&format!("{selection}:{ratio}"), n_layers);
            specs.push(ModeSpec::new(mode.context("--policies")?));
        }
    }
    Ok(specs)
}

fn servable(notation: &str, n_layers: usize) -> anyhow::Result<Mode> {
    let mode: Mode = notation.parse()?;
    mode.clone().normalised(n_layers)?;
    if let Mode::Blend(blend) = &mode {
        ensure!(
            !blend.selection.policy.is_for_evaluation(),
            "`{notation}` costs a full prefill: it cannot be served; `quality` measures it"
        );
    }
    Ok(mode)
}

fn defaults(n_layers: usize) -> Vec<String> {
    // The first layers; and for `anchors` places over the depth of the model.
    let checks: Vec<usize> = match n_layers {
        0..=2 => vec![0],
        _ => (1..=3).filter(|layer| layer + 1 < n_layers).collect(),
    };
    let mut critical: Vec<usize> = [1, 2, 3].map(|quarter| quarter * n_layers / 4).into();
    critical.push(n_layers - 1);
    critical.dedup();
    let at = |layer: &usize| CHECKED.map(|pattern| pattern.replace("{}", &layer.to_string()));
    let anchors = |layer: &usize| [format!("anchors@{layer}"), format!("anchors@{layer}/max")];
    let plain = POLICIES.map(str::to_owned);
    let checked = checks.iter().flat_map(at).chain(plain);
    checked.chain(critical.iter().flat_map(anchors)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_can_be_planned_at_any_depth() {
        for n_layers in [1, 2, 4, 32] {
            let specs = specs(&[], &[0.1], n_layers).unwrap();
            assert!(specs.len() > 8, "{n_layers}");
        }
        let names: Vec<String> = defaults(4);
        assert!(
            names.contains(&"hkvd@2~mean".to_owned())
                && names.contains(&"anchors@3/max".to_owned())
        );
        assert!(
            !names.contains(&"hkvd@3".to_owned()),
            "nothing is left to recompute after it"
        );
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        let error = format!(
            "{:#}",
            specs(&["oracle".to_owned()], &[0.1], 4).unwrap_err()
        );
        assert!(error.contains("cannot be served"), "{error}");
        assert!(specs(&["hkvd@9".to_owned()], &[0.1], 4).is_err());
    }
}
