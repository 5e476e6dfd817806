//! The fusion options of a request over those of the configuration, as one `Mode`. What cannot be is refused by the
//! field's path.

use ragweave_engine::Mode;
use ragweave_proto::v1;

use super::request::{Checked, known, unspecified};
use crate::config::{
    BudgetKind, CorrectionKind, DeviationKind, FusionConfig, ModeKind, ScheduleKind, Selection,
    Settings,
};
use crate::pipeline::AnswerError;

/// The configured fusion with what the request overrides.
///
/// # Errors
/// `InvalidField`.
pub(super) fn mode(options: v1::FusionOptions, mut fusion: FusionConfig) -> Checked<Mode> {
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
        fusion.ratio = checked_ratio(ratio, fusion.policy.ratio())?;
    }
    Ok(fusion.to_mode())
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
    })
}

fn checked_ratio(ratio: f64, in_selection: Option<f64>) -> Checked<f64> {
    if in_selection.is_some() {
        let message = "is in fusion.selection already; give it once";
        return Err(AnswerError::invalid("fusion.ratio", message));
    }
    if !(0.0..=1.0).contains(&ratio) {
        let message = format!("must lie in 0..=1, is {ratio}");
        return Err(AnswerError::invalid("fusion.ratio", message));
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
        };
        match mode(options, configured) {
            Ok(mode) => Ok(mode.to_string()),
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
        for (options, field, reason) in [
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
