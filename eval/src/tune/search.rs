//! Asking: every mode the same questions in turn, so that their figures can be paired.

use anyhow::Context as _;
use ragweave_engine::Mode;
use ragweave_server::interval::Interval;
use serde::Serialize;

use super::ask::Ask;
use super::corpus::Corpus;
use crate::examiner::{Examiner, Outcome};
use crate::experiment;
use crate::metric::{is_normalised_match, mean, median, paired_difference_ci};
use crate::mode_spec::ModeSpec;
use crate::shelf::Shelf;

const CI_SEED: u64 = 1;

/// What computes nothing again: measured beside the policies, and not chosen.
pub(super) const REUSE: &str = "reuse";

pub(super) struct Search<'a> {
    corpus: &'a Corpus<'a>,
    asks: &'a [Ask],
    kept: Shelf,
    /// Of each question asked, whether full prefill is right; `None` if no answer is known.
    full: Vec<Option<bool>>,
    tried: Vec<Tried>,
    /// Modes asked before and not asked now.
    aside: Vec<Tried>,
}

/// A mode and its trials, in the order of the questions.
#[derive(Debug, Clone)]
struct Tried {
    spec: ModeSpec,
    trials: Vec<Trial>,
}

/// One question under one mode, in the figures that decide.
#[derive(Debug, Clone, PartialEq)]
struct Trial {
    is_match: Option<bool>,
    kl: f64,
    top1_agreement: f64,
    computed_share: f64,
    ttft_ms: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) spec: String,
    pub(super) n: usize,
    /// Those of them that have a right answer.
    pub(super) n_answered: usize,
    pub(super) exact_match: Option<f64>,
    /// That of full prefill on the same questions.
    pub(super) full_exact_match: Option<f64>,
    /// Full prefill's share minus this one, paired by question: 95 % bootstrap interval.
    pub(super) loss_ci: Option<(f64, f64)>,
    /// Mean over the tokens of full prefill's answers, in nats.
    pub(super) kl: f64,
    pub(super) kl_ci: (f64, f64),
    /// Divergence less that of plain reuse, paired by question: below zero is nearer to full prefill. Absent for reuse.
    pub(super) kl_vs_reuse: Option<f64>,
    pub(super) kl_vs_reuse_ci: Option<(f64, f64)>,
    pub(super) top1_agreement: f64,
    pub(super) top1_ci: (f64, f64),
    /// Of full prefill's rows through attention and MLP, all layers and probes counted.
    pub(super) computed_share: f64,
    pub(super) ttft_ms_p50: f64,
}

impl<'a> Search<'a> {
    pub(super) fn new(corpus: &'a Corpus<'a>, asks: &'a [Ask]) -> Self {
        Self {
            corpus,
            asks,
            kept: Shelf::default(),
            full: Vec::new(),
            tried: Vec::new(),
            aside: Vec::new(),
        }
    }

    /// Asks each of `specs`, and plain reuse, which each of them is compared with, the first `n`
    /// questions, except those they have answered. Modes that are not named are left out of
    /// [`Search::figures`] until they are named again.
    pub(super) async fn run(&mut self, specs: &[ModeSpec], n: usize) -> anyhow::Result<()> {
        self.aside.append(&mut self.tried);
        let reuse = ModeSpec::new(Mode::Reuse);
        for spec in specs.iter().chain([&reuse]) {
            let known = self.aside.iter().position(|tried| tried.spec == *spec);
            self.tried.push(match known {
                Some(place) => self.aside.swap_remove(place),
                None => Tried {
                    spec: spec.clone(),
                    trials: Vec::new(),
                },
            });
        }
        let bar = experiment::bar(n * self.tried.len(), "answers");
        for number in 0..n {
            let asked = self.question(number).await;
            asked.with_context(|| format!("question {}", number + 1))?;
            bar.inc(self.tried.len() as u64);
        }
        bar.finish_and_clear();
        Ok(())
    }

    async fn question(&mut self, number: usize) -> anyhow::Result<()> {
        if self.tried.iter().all(|tried| tried.trials.len() > number) {
            return Ok(());
        }
        let ask = &self.asks[number];
        let examiner = Examiner(self.corpus.engine());
        let n_layers = self.corpus.engine().model().config.num_hidden_layers;
        let prepared = self.corpus.prepare(ask, &mut self.kept).await?;
        let reference = examiner.full(&prepared).await?;
        if number == self.full.len() {
            self.full.push(ask.is_right(&reference.answer));
        }
        for tried in &mut self.tried {
            if tried.trials.len() > number {
                continue;
            }
            let spec = &tried.spec;
            let outcome = examiner.examine(&prepared, spec, number, &reference).await;
            let outcome = outcome.with_context(|| format!("under {spec}"))?;
            tried.trials.push(Trial::new(ask, &outcome, n_layers));
        }
        Ok(())
    }

    pub(super) fn figures(&self) -> Vec<Figures> {
        let is_reuse = |tried: &&Tried| tried.spec.to_string() == REUSE;
        let reuse = self.tried.iter().find(is_reuse);
        let of = |tried| Figures::new(tried, &self.full, reuse);
        self.tried.iter().map(of).collect()
    }
}

impl Trial {
    fn new(ask: &Ask, outcome: &Outcome, n_layers: usize) -> Self {
        Self {
            is_match: ask.is_right(&outcome.answer),
            kl: outcome.kl,
            top1_agreement: outcome.top1_agreement,
            computed_share: outcome.report.computed_share(n_layers),
            ttft_ms: outcome.ttft_ms,
        }
    }
}

impl Ask {
    /// Whether an answer is right; `None` if no right one is known.
    fn is_right(&self, answer: &str) -> Option<bool> {
        (!self.answers.is_empty()).then(|| is_normalised_match(answer, &self.answers))
    }
}

impl Figures {
    /// `full`: of each question, whether full prefill is right; `reuse`: asked the same questions.
    fn new(tried: &Tried, full: &[Option<bool>], reuse: Option<&Tried>) -> Self {
        let trials = &tried.trials;
        let of = |value: fn(&Trial) -> f64| trials.iter().map(value).collect::<Vec<f64>>();
        let mean_of = |value| mean(&of(value)).unwrap_or_default();
        let kl = interval(&of(|trial| trial.kl));
        let top1 = interval(&of(|trial| trial.top1_agreement));
        let vs_reuse = reuse.filter(|reuse| reuse.spec != tried.spec);
        let vs_reuse = vs_reuse.map(|reuse| interval(&differences(tried, reuse)));
        let number = |is_match: bool| f64::from(u8::from(is_match));
        let pairs = trials.iter().zip(full);
        let pairs = pairs.map(|(trial, full)| Some((number((*full)?), number(trial.is_match?))));
        let pairs: Vec<(f64, f64)> = pairs.flatten().collect();
        let side = |side: fn(&(f64, f64)) -> f64| mean(&pairs.iter().map(side).collect::<Vec<_>>());
        Self {
            spec: tried.spec.to_string(),
            n: trials.len(),
            n_answered: pairs.len(),
            exact_match: side(|(_, mode)| *mode),
            full_exact_match: side(|(full, _)| *full),
            loss_ci: paired_difference_ci(&pairs, CI_SEED),
            kl: kl.mean,
            kl_ci: (kl.low, kl.high),
            kl_vs_reuse: vs_reuse.map(|of| of.mean),
            kl_vs_reuse_ci: vs_reuse.map(|of| (of.low, of.high)),
            top1_agreement: top1.mean,
            top1_ci: (top1.low, top1.high),
            computed_share: mean_of(|trial| trial.computed_share),
            ttft_ms_p50: median(&of(|trial| trial.ttft_ms)).unwrap_or_default(),
        }
    }

    /// How much of full prefill's share of right answers is lost; `None` if no answers are known.
    pub(super) fn loss(&self) -> Option<f64> {
        Some(self.full_exact_match? - self.exact_match?)
    }
}

/// Divergence less that of reuse, of each question that both were asked.
fn differences(tried: &Tried, reuse: &Tried) -> Vec<f64> {
    let pairs = tried.trials.iter().zip(&reuse.trials);
    pairs.map(|(tried, reuse)| tried.kl - reuse.kl).collect()
}

/// Without samples nothing is known: the interval then holds every number, so that no limit is kept.
fn interval(samples: &[f64]) -> Interval {
    Interval::of(samples).unwrap_or(Interval {
        mean: f64::MAX,
        low: f64::MIN,
        high: f64::MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(spec: &str, kls: &[f64]) -> Tried {
        let trial = |&kl: &f64| Trial {
            is_match: None,
            kl,
            top1_agreement: 1.0,
            computed_share: 0.2,
            ttft_ms: 1.0,
        };
        Tried {
            spec: spec.parse().unwrap(),
            trials: kls.iter().map(trial).collect(),
        }
    }

    #[test]
    fn a_mode_is_paired_with_reuse_question_by_question() {
        // Hard and easy questions differ far more than the modes do.
        let reuse = tried(REUSE, &[0.1, 1.0, 0.2, 2.0]);
        let blend = tried("first-k:0.1", &[0.08, 0.97, 0.18, 1.97]);
        let of = Figures::new(&blend, &[None; 4], Some(&reuse));
        assert!((of.kl_vs_reuse.unwrap() + 0.025).abs() < 1e-9, "{of:?}");
        assert!(of.kl_vs_reuse_ci.unwrap().1 < 0.0, "{of:?}");
        let alone = Figures::new(&reuse, &[None; 4], Some(&reuse));
        assert_eq!((alone.kl_vs_reuse, alone.kl_vs_reuse_ci), (None, None));
    }
}
