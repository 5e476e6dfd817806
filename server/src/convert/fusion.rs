//! The fusion options of a request over those of the configuration, as one `ModeChoice`. What cannot be is refused by the
//! field's path.

use ragweave_proto::v1;

use super::request::{Checked, known, unspecified};
use crate::config::{
    BudgetKind, CorrectionKind, DeviationKind, FusionConfig, ModeKind, ScheduleKind, Selection,
    Settings,
};
use crate::controller::ModeChoice;
use crate::pipeline::AnswerError;

/// Longest selection; the longest that means something is far shorter.
const MAX_SELECTION_BYTES: usize = 1024;

/// The configured fusion with what the request overrides, for a model of so many layers.
///
/// # Errors
/// `InvalidField`.
pub(super) fn mode(
    options: v1::FusionOptions,
    mut fusion: FusionConfig,
    n_layers: usize,
) -> Checked<ModeChoice> {
    if let Some(mode) = options.mode {
        fusion.mode = mode_kind(mode)?;
    }
    spread(&options, &mut fusion)?;
    let settings = settings(&options, &mut fusion)?;
    fusion.policy = match named(&options)? {
        Some(selection) => selection,
        None => fusion.policy.overridden(settings),
    };
    if let Some(ratio) = options.ratio {
        if fusion.policy.ratio().is_some() {
            let message = "is in fusion.selection already; give it once";
            return Err(AnswerError::invalid("fusion.ratio", message));
        }
        fusion.ratio = checked_ratio("fusion.ratio", ratio)?;
    }
    if options.ratio.or(fusion.policy.ratio()).is_some() {
        // The configured floor is one for the configured ratio.
        fusion.min_ratio = None;
    }
    if let Some(ratio) = options.min_ratio {
        fusion.min_ratio = Some(checked_ratio("fusion.min_ratio", ratio)?);
    }
    if let Err((key, message)) = fusion.check_layers(n_layers) {
        return Err(AnswerError::invalid(at_fault(key, &options), message));
    }
    Ok(fusion.to_choice())
}

/// The field of the request that brought a value in which the model cannot run.
fn at_fault(key: &'static str, options: &v1::FusionOptions) -> &'static str {
    match key {
        "fusion.policy" if options.selection.is_some() => "fusion.selection",
        "fusion.policy" if options.check_layer.is_some() => "fusion.check_layer",
        key => key,
    }
}

/// The policies that the request itself names.
fn named(options: &v1::FusionOptions) -> Checked<Option<Selection>> {
    let (field, notation) = match (options.policy, &options.selection) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(AnswerError::invalid(
                "fusion.selection",
                "excludes fusion.policy; set only one of the two",
            ));
        }
        (Some(policy), None) => ("fusion.policy", policy_name(policy)?),
        (None, Some(notation)) => ("fusion.selection", notation.as_str()),
    };
    if notation.len() > MAX_SELECTION_BYTES {
        let message = format!(
            "has {} bytes, the limit is {MAX_SELECTION_BYTES}",
            notation.len()
        );
        return Err(AnswerError::invalid(field, message));
    }
    let selection: Selection = notation
        .parse()
        .map_err(|error| AnswerError::invalid(field, format!("{error}")))?;
    selection
        .check_servable()
        .map_err(|message| AnswerError::invalid(field, message))?;
    Ok(Some(selection))
}

/// A policy of the enum in the notation.
fn policy_name(policy: i32) -> Checked<&'static str> {
    let field = "fusion.policy";
    Ok(match known(field, policy)? {
        v1::SelectionPolicy::Unspecified => return Err(unspecified(field)),
        v1::SelectionPolicy::Union => {
            return Err(AnswerError::invalid(
                field,
                "does not say which policies to unite; write them into fusion.selection, such as \
                 first-k+query",
            ));
        }
        v1::SelectionPolicy::Hkvd => "hkvd",
        v1::SelectionPolicy::FirstK => "first-k",
        v1::SelectionPolicy::Random => "random",
        v1::SelectionPolicy::All => "all",
        v1::SelectionPolicy::Query => "query",
        v1::SelectionPolicy::Anchors => "anchors",
    })
}

fn mode_kind(mode: i32) -> Checked<ModeKind> {
    Ok(match known("fusion.mode", mode)? {
        v1::FusionMode::Unspecified => return Err(unspecified("fusion.mode")),
        v1::FusionMode::Full => ModeKind::Full,
        v1::FusionMode::Reuse => ModeKind::Reuse,
        v1::FusionMode::Blend => ModeKind::Blend,
        v1::FusionMode::Auto => ModeKind::Auto,
    })
}

fn checked_ratio(field: &'static str, ratio: f64) -> Checked<f64> {
    if !(0.0..=1.0).contains(&ratio) {
        let message = format!("must lie in 0..=1, is {ratio}");
        return Err(AnswerError::invalid(field, message));
    }
    Ok(ratio)
}

/// Budget and correction.
fn spread(options: &v1::FusionOptions, fusion: &mut FusionConfig) -> Checked<()> {
    if let Some(budget) = options.budget {
        fusion.budget = match known("fusion.budget", budget)? {
            v1::Budget::Unspecified => return Err(unspecified("fusion.budget")),
            v1::Budget::Prompt => BudgetKind::Prompt,
            v1::Budget::Length => BudgetKind::Length,
            v1::Budget::Score => BudgetKind::Score,
        };
    }
    if let Some(correction) = options.correction {
        fusion.correction = match known("fusion.correction", correction)? {
            v1::Correction::Unspecified => return Err(unspecified("fusion.correction")),
            v1::Correction::None => CorrectionKind::None,
            v1::Correction::Mean => CorrectionKind::Mean,
        };
    }
    Ok(())
}

/// Puts the settings of single policies in place of the configured ones, and gives them.
fn settings(options: &v1::FusionOptions, fusion: &mut FusionConfig) -> Checked<Settings> {
    let deviation = options.deviation.map(deviation).transpose()?;
    let schedule = options.schedule.map(schedule).transpose()?;
    let check_layer = options.check_layer.map(|layer| layer as usize);
    fusion.deviation = deviation.unwrap_or(fusion.deviation);
    fusion.schedule = schedule.unwrap_or(fusion.schedule);
    fusion.check_layer = check_layer.unwrap_or(fusion.check_layer);
    fusion.seed = options.seed.unwrap_or(fusion.seed);
    Ok(Settings {
        check_layer,
        deviation: deviation.map(Into::into),
        schedule: schedule.map(Into::into),
        seed: options.seed,
    })
}

fn deviation(deviation: i32) -> Checked<DeviationKind> {
    Ok(match known("fusion.deviation", deviation)? {
        v1::Deviation::Unspecified => return Err(unspecified("fusion.deviation")),
        v1::Deviation::K => DeviationKind::K,
        v1::Deviation::V => DeviationKind::V,
        v1::Deviation::Kv => DeviationKind::Kv,
    })
}

fn schedule(schedule: i32) -> Checked<ScheduleKind> {
    Ok(match known("fusion.schedule", schedule)? {
        v1::Schedule::Unspecified => return Err(unspecified("fusion.schedule")),
        v1::Schedule::Fixed => ScheduleKind::Fixed,
        v1::Schedule::Gradual => ScheduleKind::Gradual,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mode of a request over a configured policy; or the field at fault and the message.
    fn planned(
        configured: &str,
        options: v1::FusionOptions,
    ) -> Result<String, (&'static str, String)> {
        let configured = FusionConfig {
            mode: ModeKind::Blend,
            policy: configured.parse().unwrap(),
            ratio: 0.15,
            check_layer: 2,
            deviation: DeviationKind::Kv,
            schedule: ScheduleKind::Fixed,
            seed: 0,
            budget: BudgetKind::Prompt,
            correction: CorrectionKind::None,
            min_ratio: Some(0.05),
        };
        match mode(options, configured, 4) {
            Ok(ModeChoice::Fixed(mode)) => Ok(mode.to_string()),
            Ok(auto @ ModeChoice::Auto(_)) => Ok(format!("auto {}", auto.widest())),
            Err(AnswerError::InvalidField { field, message }) => Err((field, message)),
            Err(other) => panic!("{other}"),
        }
    }

    fn selecting(selection: &str) -> v1::FusionOptions {
        v1::FusionOptions {
            selection: Some(selection.to_owned()),
            ..Default::default()
        }
    }

    #[test]
    fn the_selection_wins_and_what_it_leaves_open_is_completed() {
        assert_eq!(
            planned("first-k", selecting("hkvd")).unwrap(),
            "hkvd@2:0.15"
        );
        let wide = selecting("first-k+query/all~score:0.05");
        let text = wide.selection.clone().unwrap();
        assert_eq!(planned("hkvd", wide).unwrap(), text);
        let corrected = v1::FusionOptions {
            budget: Some(v1::Budget::Score.into()),
            correction: Some(v1::Correction::Mean.into()),
            ..selecting("anchors~length")
        };
        assert_eq!(
            planned("hkvd", corrected).unwrap(),
            "anchors~length~mean:0.15"
        );
    }

    #[test]
    fn single_settings_change_the_configured_notation() {
        let deeper = v1::FusionOptions {
            check_layer: Some(3),
            ..Default::default()
        };
        assert_eq!(
            planned("first-k+hkvd@1/v", deeper).unwrap(),
            "first-k+hkvd@3/v:0.15"
        );
    }

    #[test]
    fn auto_blends_at_the_floor() {
        let auto = |selection: Option<&str>, ratio, min_ratio| v1::FusionOptions {
            mode: Some(v1::FusionMode::Auto.into()),
            selection: selection.map(str::to_owned),
            ratio,
            min_ratio,
            ..Default::default()
        };
        for (options, expected) in [
            (auto(None, None, None), "auto first-k:0.05"),
            (auto(None, Some(0.3), None), "auto first-k:0.3"),
            (auto(None, Some(0.3), Some(0.2)), "auto first-k:0.2"),
            (auto(Some("query:0.4"), None, None), "auto query:0.4"),
            (auto(None, None, Some(0.0)), "auto first-k:0"),
        ] {
            assert_eq!(planned("first-k", options).unwrap(), expected);
        }
        let (field, _) = planned("first-k", auto(None, None, Some(1.5))).unwrap_err();
        assert_eq!(field, "fusion.min_ratio");
    }

    #[test]
    fn enum_policies_still_work() {
        for (policy, mode) in [
            (v1::SelectionPolicy::Query, "query:0.15"),
            (v1::SelectionPolicy::Anchors, "anchors:0.15"),
            (v1::SelectionPolicy::Hkvd, "hkvd@2:0.15"),
            (v1::SelectionPolicy::All, "all"),
        ] {
            let options = v1::FusionOptions {
                policy: Some(policy.into()),
                ..Default::default()
            };
            assert_eq!(planned("first-k", options).unwrap(), mode);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        let both = v1::FusionOptions {
            policy: Some(v1::SelectionPolicy::Hkvd.into()),
            ..selecting("first-k")
        };
        let twice = v1::FusionOptions {
            ratio: Some(0.1),
            ..selecting("first-k:0.2")
        };
        let union = v1::FusionOptions {
            policy: Some(v1::SelectionPolicy::Union.into()),
            ..Default::default()
        };
        let deep = |mode: v1::FusionMode| v1::FusionOptions {
            mode: Some(mode.into()),
            check_layer: Some(4),
            ..Default::default()
        };
        for (options, field, reason) in [
            (
                deep(v1::FusionMode::Blend),
                "fusion.check_layer",
                "4 is too deep",
            ),
            (
                deep(v1::FusionMode::Full),
                "fusion.check_layer",
                "4 is too deep",
            ),
            (selecting("hkvd@4:0.1"), "fusion.selection", "4 is too deep"),
            (
                selecting("first-k+anchors@1.9"),
                "fusion.selection",
                "9 is too deep",
            ),
            (selecting("query+query"), "fusion.selection", "twice"),
            (
                selecting(&"+".repeat(1025)),
                "fusion.selection",
                "the limit is 1024",
            ),
            (both, "fusion.selection", "excludes fusion.policy"),
            (twice, "fusion.ratio", "in fusion.selection already"),
            (union, "fusion.policy", "fusion.selection"),
            (selecting("best"), "fusion.selection", "known are hkvd"),
            (selecting("oracle"), "fusion.selection", "ragweave-eval"),
        ] {
            let (at, message) = planned("hkvd", options).unwrap_err();
            assert_eq!(at, field, "{message}");
            assert!(message.contains(reason), "{message}");
        }
    }
}
