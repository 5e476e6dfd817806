//! The choice and why: on the screen, and as files of the data directory.

use std::path::Path;

use anyhow::Context as _;
use ragweave_engine::Mode;
use ragweave_server::components::Components;
use serde::Serialize;

use super::ask::Ask;
use super::choice::{Limits, is_on_front};
use super::search::Figures;
use crate::run_dir::{RunModel, replace};
use crate::table::{Table, number, percent};

/// The file that `serve` takes its default from.
const TUNED: &str = "tuned.toml";
/// All figures.
const FIGURES: &str = "tuned.json";

/// A finished search.
#[derive(Debug, Serialize)]
pub(super) struct Evidence {
    model: RunModel,
    questions: usize,
    questions_with_answers: usize,
    limits: Limits,
    /// `full` where no mode keeps its quality.
    chosen: String,
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
    max_loss: f64,
    max_kl: f64,
    min_top1: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen: Option<&'a Figures>,
}

impl Evidence {
    pub(super) fn new(
        components: &Components,
        asks: &[Ask],
        limits: &Limits,
        mut figures: Vec<Figures>,
        chosen: Option<Figures>,
    ) -> Self {
        figures.sort_by(|a, b| a.computed_share.total_cmp(&b.computed_share));
        let row = |one: &Figures| Row {
            on_front: is_on_front(one, &figures),
            figures: one.clone(),
        };
        Self {
            model: RunModel::of(components.engine.model()),
            questions: asks.len(),
            questions_with_answers: asks.iter().filter(|ask| !ask.answers.is_empty()).count(),
            limits: limits.clone(),
            chosen: chosen.map_or_else(|| "full".to_owned(), |chosen| chosen.spec),
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
            "# Written by `ragweave-eval tune`; `serve` takes [fusion] as its default. Delete it to go back.\n\n{tuned}"
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
                questions: self.questions,
                questions_with_answers: self.questions_with_answers,
                max_loss: self.limits.max_loss,
                max_kl: self.limits.max_kl,
                min_top1: self.limits.min_top1,
                chosen: chosen.map(|row| &row.figures),
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
        let outcome = match self.chosen.as_str() {
            "full" => {
                "no policy keeps full prefill's quality within the limits: full prefill is chosen"
                    .to_owned()
            }
            chosen => format!("{chosen} computes least within the limits"),
        };
        let written = match is_dry {
            true => "not written (--dry-run)".to_owned(),
            false => format!("written to {}", data.join(TUNED).display()),
        };
        format!("{table}\n\n{outcome}; {written}")
    }
}
