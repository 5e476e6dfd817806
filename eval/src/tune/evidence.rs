//! The choice and why, and as files of the data directory.

use std::path::Path;

use anyhow::Context as _;
use ragweave_engine::{Mode, Ratio, Selection};
use ragweave_server::interval::FEW;
use serde::Serialize;

use super::ask::Ask;
use super::choice::{Limits, is_on_front};
use super::confirm::{Confirmation, Tried};
use super::search::Figures;
use super::source::Places;
use crate::run_dir::{RunModel, replace};

/// The file that `serve` takes its default from.
pub(super) const TUNED: &str = "tuned.toml";
const FIGURES: &str = "tuned.json";

#[derive(Debug, Clone, Serialize)]
pub(super) struct Asked {
    pub(super) questions: usize,
    pub(super) questions_with_answers: usize,
    /// Questions the choice was made on, and others to confirm it on.
    pub(super) chosen_on: usize,
    pub(super) kept_back: usize,
    pub(super) source: Places,
}

#[derive(Debug, Serialize)]
pub(super) struct Evidence {
    pub(super) model: RunModel,
    #[serde(flatten)]
    pub(super) asked: Asked,
    pub(super) limits: Limits,
    /// `full` where no mode keeps its quality, or none that does was confirmed.
    pub(super) chosen: String,
    /// Questions that confirmed the choice; absent for `full`, which nothing has to confirm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) confirmed_on: Option<usize>,
    pub(super) confirmed: Option<Figures>,
    /// Modes that kept the quality where they were chosen, and not on the questions kept back.
    pub(super) refuted: Vec<Tried>,
    /// Of the modes that got a second look, those that compute least first.
    pub(super) rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) figures: Figures,
    /// No other row is as near to full prefill for less work.
    pub(super) on_front: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Tuned<'a> {
    fusion: Fusion,
    evidence: Why<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Fusion {
    Full {
        mode: &'static str,
    },
    Blend {
        mode: &'static str,
        selection: Selection,
        ratio: Ratio,
    },
}

#[derive(Debug, Serialize)]
struct Why<'a> {
    model_fingerprint: &'a str,
    questions: usize,
    questions_with_answers: usize,
    chosen_on: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed_on: Option<usize>,
    max_loss: f64,
    max_kl: f64,
    min_top1: f64,
    source: Places,
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen: Option<&'a Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed: Option<&'a Figures>,
}

impl Asked {
    pub(super) fn new(asks: &[Ask], source: Places) -> Self {
        Self {
            questions: asks.len(),
            questions_with_answers: asks.iter().filter(|ask| !ask.answers.is_empty()).count(),
            chosen_on: 0,
            kept_back: 0,
            source,
        }
    }

    pub(super) fn split(self, chosen_on: usize, kept_back: usize) -> Self {
        Self {
            chosen_on,
            kept_back,
            ..self
        }
    }

    fn is_few(&self) -> bool {
        self.chosen_on < FEW || self.kept_back < FEW
    }
}

impl Evidence {
    pub(super) fn new(
        model: RunModel,
        asked: Asked,
        limits: &Limits,
        mut figures: Vec<Figures>,
        confirmation: Confirmation,
    ) -> Self {
        let Confirmation { held, refuted } = confirmation;
        let (chosen, confirmed) = held.map(|held| (held.chosen, held.confirmed)).unzip();
        figures.sort_by(|a, b| a.computed_share.total_cmp(&b.computed_share));
        let row = |one: &Figures| Row {
            on_front: is_on_front(one, &figures),
            figures: one.clone(),
        };
        Self {
            model,
            confirmed_on: confirmed.as_ref().map(|confirmed: &Figures| confirmed.n),
            asked,
            limits: limits.clone(),
            chosen: chosen.map_or_else(|| "full".to_owned(), |chosen: Figures| chosen.spec),
            confirmed,
            refuted,
            rows: figures.iter().map(row).collect(),
        }
    }

    /// What the choice rests on.
    pub(super) fn basis(&self) -> String {
        let Asked {
            chosen_on,
            kept_back,
            ..
        } = &self.asked;
        match self.confirmed_on {
            Some(confirmed_on) => {
                format!("chosen on {chosen_on} questions and confirmed on {confirmed_on} others")
            }
            None => format!(
                "searched on {chosen_on} questions, with {kept_back} others kept back to confirm a choice"
            ),
        }
    }

    /// The warning about a policy that was chosen or confirmed on few questions.
    pub(super) fn doubt(&self) -> Option<String> {
        let is_doubtful = self.confirmed_on.is_some() && self.asked.is_few();
        is_doubtful.then(|| {
            format!(
                "fewer than {FEW} questions, to choose on or to confirm, say little: give more. `serve` warns of this \
                 choice"
            )
        })
    }

    /// Writes choice and figures into a data directory, each file whole or not at all.
    pub(super) fn write(&self, data: &Path) -> anyhow::Result<()> {
        let tuned = toml::to_string(&self.tuned()?)?;
        let doubt = self.doubt().map(|doubt| format!("# {doubt}.\n"));
        let text = format!(
            "# Written by `ragweave-eval tune`, {}; `serve` takes [fusion] as its default. Delete it to go back.\n{}\n{tuned}",
            self.basis(),
            doubt.unwrap_or_default()
        );
        let figures = serde_json::to_string_pretty(self)? + "\n";
        replace(data, FIGURES, figures.as_bytes())?;
        replace(data, TUNED, text.as_bytes()).context("write the choice into the data directory")
    }

    pub(super) fn tuned(&self) -> anyhow::Result<Tuned<'_>> {
        let fusion = match self.chosen.parse::<Mode>()? {
            Mode::Full | Mode::Reuse => Fusion::Full { mode: "full" },
            // Its ratio is the floor of auto, which prefills in full where that is faster.
            Mode::Blend(blend) => Fusion::Blend {
                mode: "auto",
                selection: blend.selection,
                ratio: blend.ratio,
            },
        };
        let chosen = self.rows.iter().find(|row| row.figures.spec == self.chosen);
        Ok(Tuned {
            fusion,
            evidence: Why {
                model_fingerprint: &self.model.fingerprint,
                questions: self.asked.questions,
                questions_with_answers: self.asked.questions_with_answers,
                chosen_on: self.asked.chosen_on,
                confirmed_on: self.confirmed_on,
                max_loss: self.limits.max_loss,
                max_kl: self.limits.max_kl,
                min_top1: self.limits.min_top1,
                source: self.asked.source,
                chosen: chosen.map(|row| &row.figures),
                confirmed: self.confirmed.as_ref(),
            },
        })
    }
}
