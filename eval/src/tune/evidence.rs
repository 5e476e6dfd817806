//! The choice and why: on the screen, and as files of the data directory.

use std::path::Path;

use anyhow::Context as _;
use ragweave_engine::Mode;
use ragweave_server::components::Components;
use serde::Serialize;

use super::ask::Ask;
use super::choice::{Limits, REUSE, is_on_front};
use super::confirm::{Confirmation, Tried};
use super::search::Figures;
use super::source::Places;
use crate::run_dir::{RunModel, replace};
use crate::table::{Table, number, percent};

/// The file that `serve` takes its default from.
const TUNED: &str = "tuned.toml";
/// All figures.
const FIGURES: &str = "tuned.json";

/// Fewer questions than these on either part tell little.
const FEW: usize = 30;

/// What was asked.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Asked {
    questions: usize,
    questions_with_answers: usize,
    /// Questions the choice was made on, and others it was confirmed on.
    chosen_on: usize,
    confirmed_on: usize,
    source: Places,
}

/// A finished search.
#[derive(Debug, Serialize)]
pub(super) struct Evidence {
    model: RunModel,
    #[serde(flatten)]
    asked: Asked,
    limits: Limits,
    /// `full` where no mode keeps its quality, or none that does was confirmed.
    chosen: String,
    /// The choice on the questions that were kept back; absent for `full`.
    confirmed: Option<Figures>,
    /// Modes that kept the quality where they were chosen, and not on the questions kept back.
    refuted: Vec<Tried>,
    /// Of the modes that got a second look, those that compute least first.
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    figures: Figures,
    /// No other row is as near to full prefill for less work.
    on_front: bool,
}

/// `tuned.toml`.
#[derive(Debug, Serialize)]
struct Tuned<'a> {
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
        policy: String,
        ratio: f64,
    },
}

#[derive(Debug, Serialize)]
struct Why<'a> {
    model_fingerprint: &'a str,
    questions: usize,
    questions_with_answers: usize,
    chosen_on: usize,
    confirmed_on: usize,
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
    /// All questions, not split yet.
    pub(super) fn new(asks: &[Ask], source: Places) -> Self {
        Self {
            questions: asks.len(),
            questions_with_answers: asks.iter().filter(|ask| !ask.answers.is_empty()).count(),
            chosen_on: 0,
            confirmed_on: 0,
            source,
        }
    }

    pub(super) fn split(self, chosen_on: usize, confirmed_on: usize) -> Self {
        Self {
            chosen_on,
            confirmed_on,
            ..self
        }
    }

    fn is_few(&self) -> bool {
        self.chosen_on < FEW || self.confirmed_on < FEW
    }
}

impl Evidence {
    pub(super) fn new(
        components: &Components,
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
            model: RunModel::of(components.engine.model()),
            asked,
            limits: limits.clone(),
            chosen: chosen.map_or_else(|| "full".to_owned(), |chosen: Figures| chosen.spec),
            confirmed,
            refuted,
            rows: figures.iter().map(row).collect(),
        }
    }

    /// Writes choice and figures into a data directory, each file whole or not at all.
    ///
    /// # Errors
    /// Where the directory cannot be written.
    pub(super) fn write(&self, data: &Path) -> anyhow::Result<()> {
        let tuned = toml::to_string(&self.tuned()?)?;
        let text = format!(
            "# Written by `ragweave-eval tune`, chosen on {} questions and confirmed on {} others; `serve` takes [fusion] as \
             its default. Delete it to go back.\n\n{tuned}",
            self.asked.chosen_on, self.asked.confirmed_on
        );
        let figures = serde_json::to_string_pretty(self)? + "\n";
        replace(data, FIGURES, figures.as_bytes())?;
        replace(data, TUNED, text.as_bytes()).context("write the choice into the data directory")
    }

    fn tuned(&self) -> anyhow::Result<Tuned<'_>> {
        let fusion = match self.chosen.parse::<Mode>()? {
            Mode::Full | Mode::Reuse => Fusion::Full { mode: "full" },
            // Its ratio is the floor of auto, which prefills in full where that is faster.
            Mode::Blend(blend) => Fusion::Blend {
                mode: "auto",
                policy: blend.selection(),
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
                confirmed_on: self.asked.confirmed_on,
                max_loss: self.limits.max_loss,
                max_kl: self.limits.max_kl,
                min_top1: self.limits.min_top1,
                source: self.asked.source,
                chosen: chosen.map(|row| &row.figures),
                confirmed: self.confirmed.as_ref(),
            },
        })
    }

    /// The figures as a table, and what became of them.
    pub(super) fn describe(&self, is_dry: bool, data: &Path) -> String {
        let header = [
            "",
            "policy",
            "n",
            "exact match",
            "full",
            "KL",
            "top-1",
            "computed",
            "TTFT ms p50",
        ];
        let mut table = Table::new(&header);
        for Row { figures, on_front } in &self.rows {
            let mark = match (figures.spec == self.chosen, on_front) {
                (true, _) => "chosen",
                (false, true) => "front",
                (false, false) => "",
            };
            table.push(vec![
                mark.to_owned(),
                figures.spec.clone(),
                figures.n.to_string(),
                percent(figures.exact_match),
                percent(figures.full_exact_match),
                number(Some(figures.kl), 4),
                percent(Some(figures.top1_agreement)),
                percent(Some(figures.computed_share)),
                number(Some(figures.ttft_ms_p50), 2),
            ]);
        }
        let written = match is_dry {
            true => "not written (--dry-run)".to_owned(),
            false => format!("written to {}", data.join(TUNED).display()),
        };
        format!("{table}\n\n{}\n{written}", self.outcome())
    }

    /// What was chosen and confirmed, on what, a line each.
    fn outcome(&self) -> String {
        let Asked {
            chosen_on,
            confirmed_on,
            source,
            ..
        } = &self.asked;
        let mut lines = vec![format!(
            "chosen on {chosen_on} questions, confirmed on {confirmed_on} others; {source}"
        )];
        let refuted = self.refuted.iter();
        lines.extend(refuted.map(|Tried { chosen, confirmed }| {
            format!(
                "{} does not hold: {} where it was chosen, {} on the others",
                chosen.spec,
                said(chosen),
                said(confirmed)
            )
        }));
        let chosen = self.rows.iter().find(|row| row.figures.spec == self.chosen);
        lines.push(match (chosen, &self.confirmed) {
            (Some(row), Some(confirmed)) => format!(
                "{} computes least within the limits: {} where it was chosen, {} on the others",
                self.chosen,
                said(&row.figures),
                said(confirmed)
            ),
            _ if self.refuted.is_empty() => {
                "no policy keeps full prefill's quality within the limits: full prefill is chosen"
                    .to_owned()
            }
            _ => "no choice was confirmed: full prefill is chosen".to_owned(),
        });
        let reuse = self.rows.iter().find(|row| row.figures.spec == REUSE);
        if reuse.is_some_and(|row| self.limits.are_kept_by(&row.figures)) {
            lines.push(
                "plain reuse is within the limits too, and computes less than any policy"
                    .to_owned(),
            );
        }
        if self.asked.is_few() {
            lines.push(format!("fewer than {FEW} questions tell little: give more"));
        }
        lines.join("\n")
    }
}

fn said(figures: &Figures) -> String {
    let fidelity = format!(
        "KL {:.4}, top-1 {}",
        figures.kl,
        percent(Some(figures.top1_agreement))
    );
    match (figures.exact_match, figures.full_exact_match) {
        (Some(_), Some(_)) => format!(
            "exact match {} against {} of full prefill, {fidelity}",
            percent(figures.exact_match),
            percent(figures.full_exact_match)
        ),
        _ => fidelity,
    }
}
