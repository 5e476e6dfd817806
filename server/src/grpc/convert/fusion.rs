//! Combines the fusion options of a request with the configured ones into one `ModeChoice`. An invalid value is refused
//! under its field's path.

use std::fmt::Display;

use ragweave_engine::{PartialBlend, Ratio};
use ragweave_proto::v1;

use super::check::{Checked, known, unspecified};
use crate::config::{FusionConfig, ModeKind, check_servable};
use crate::mode_choice::ModeChoice;
use crate::pipeline::AnswerError;

/// Longest selection in bytes; every meaningful one is far shorter.
const MAX_SELECTION_BYTES: usize = 1024;

/// The configured fusion with the request's overrides, for a model of `n_layers` layers.
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
    let mut ratio = checked_ratio("fusion.ratio", options.ratio)?;
    if let Some(text) = &options.selection {
        let asked = selection(text)?;
        if asked.ratio.is_some() && ratio.is_some() {
            let message = "is already in fusion.selection; give it once";
            return Err(AnswerError::invalid("fusion.ratio", message));
        }
        fusion.selection = asked.selection;
        ratio = ratio.or(asked.ratio);
    }
    if let Some(ratio) = ratio {
        fusion.ratio = ratio;
        // The configured floor belongs to the configured ratio.
        fusion.min_ratio = None;
    }
    let min_ratio = checked_ratio("fusion.min_ratio", options.min_ratio)?;
    fusion.min_ratio = min_ratio.or(fusion.min_ratio);
    match fusion.check_layers(n_layers) {
        Ok(()) => Ok(fusion.to_choice()),
        Err((key, message)) => Err(AnswerError::invalid(key, message)),
    }
}

/// The selection that the request asks for, with or without a ratio.
fn selection(text: &str) -> Checked<PartialBlend> {
    let invalid = |message| AnswerError::invalid("fusion.selection", message);
    if text.len() > MAX_SELECTION_BYTES {
        return Err(invalid(format!(
            "has {} bytes, the limit is {MAX_SELECTION_BYTES}",
            text.len()
        )));
    }
    let asked: PartialBlend = text.parse().map_err(|error| invalid(said(error)))?;
    check_servable(&asked.selection).map_err(invalid)?;
    Ok(asked)
}

fn checked_ratio(field: &'static str, ratio: Option<f64>) -> Checked<Option<Ratio>> {
    let ratio = ratio.map(Ratio::new).transpose();
    ratio.map_err(|error| AnswerError::invalid(field, said(error)))
}

fn said(error: impl Display) -> String {
    error.to_string()
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

impl From<ModeKind> for v1::FusionMode {
    fn from(mode: ModeKind) -> Self {
        match mode {
            ModeKind::Full => Self::Full,
            ModeKind::Reuse => Self::Reuse,
            ModeKind::Blend => Self::Blend,
            ModeKind::Auto => Self::Auto,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mode of a request over a configured selection, or the field at fault and the message.
    fn planned(
        configured: &str,
        options: v1::FusionOptions,
    ) -> Result<String, (&'static str, String)> {
        let configured = FusionConfig {
            mode: ModeKind::Blend,
            selection: configured.parse().unwrap(),
            ratio: Ratio::of_percent(15),
            min_ratio: Some(Ratio::of_percent(5)),
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
    fn the_selection_of_the_request_takes_the_place_of_the_configured_one() {
        for (asked, mode) in [
            ("hkvd", "hkvd@1:0.15"),
            ("anchors~length~mean", "anchors~length~mean:0.15"),
            (
                "first-k+query/all~score:0.05",
                "first-k+query/all~score:0.05",
            ),
            ("query", "query:0.15"),
            ("all", "all"),
        ] {
            assert_eq!(planned("hkvd@2/v", selecting(asked)).unwrap(), mode);
        }
    }

    #[test]
    fn a_request_without_a_selection_has_the_configured_one() {
        let options = v1::FusionOptions {
            ratio: Some(0.3),
            ..Default::default()
        };
        let configured = "first-k+hkvd@3/v~mean";
        let mode = planned(configured, options).unwrap();
        assert_eq!(mode, format!("{configured}:0.3"));
        let mode = planned(configured, v1::FusionOptions::default()).unwrap();
        assert_eq!(mode, format!("{configured}:0.15"));
    }

    #[test]
    fn auto_blends_at_the_floor() {
        let auto = |selection: Option<&str>, ratio, min_ratio| v1::FusionOptions {
            mode: Some(v1::FusionMode::Auto.into()),
            selection: selection.map(str::to_owned),
            ratio,
            min_ratio,
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
    fn modes_go_to_the_wire_and_back() {
        for mode in [
            ModeKind::Full,
            ModeKind::Reuse,
            ModeKind::Blend,
            ModeKind::Auto,
        ] {
            let wire = v1::FusionMode::from(mode);
            assert_eq!(mode_kind(wire.into()).unwrap(), mode);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        let twice = v1::FusionOptions {
            ratio: Some(0.1),
            ..selecting("first-k:0.2")
        };
        let outside = v1::FusionOptions {
            ratio: Some(1.5),
            ..Default::default()
        };
        let deep = |mode: v1::FusionMode| v1::FusionOptions {
            mode: Some(mode.into()),
            ..selecting("hkvd@4")
        };
        for (options, field, reason) in [
            (
                deep(v1::FusionMode::Blend),
                "fusion.selection",
                "layer 4 is too deep",
            ),
            (
                deep(v1::FusionMode::Full),
                "fusion.selection",
                "layer 4 is too deep",
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
            (twice, "fusion.ratio", "is already in fusion.selection"),
            (outside, "fusion.ratio", "1.5 is not between 0 and 1"),
            (
                selecting("first-k:1.5"),
                "fusion.selection",
                "1.5 is not between 0 and 1",
            ),
            (selecting("best"), "fusion.selection", "known are hkvd"),
            (selecting("oracle"), "fusion.selection", "ragweave-eval"),
        ] {
            let (at, message) = planned("hkvd", options).unwrap_err();
            assert_eq!(at, field, "{message}");
            assert!(message.contains(reason), "{message}");
        }
    }
}
