//! From figures to a choice. Pure.

use clap::Args;
use serde::Serialize;

use super::search::{Figures, REUSE};
use crate::flags::parse_ratio;
use crate::mode_spec::ModeSpec;

/// Modes that get another look may lose so much more than allowed: the first look is a short one.
const SECOND_CHANCE: f64 = 0.08;
/// And may diverge this many times more.
const SECOND_CHANCE_KL: f64 = 4.0;
/// So many get another look at a time, the cheapest first.
pub(super) const BATCH: usize = 24;
/// Where none of n right answers is lost, up to 3 / n may be lost in truth (the rule of three). Where the limit allows
/// less than three losses in the questions asked, right answers do not choose alone.
const MUST_ALLOW_TO_CHOOSE: f64 = 3.0;
/// Where the limit allows less than one loss in the questions asked, right answers do not confirm alone.
const MUST_ALLOW_TO_CONFIRM: f64 = 1.0;
/// Below this, full prefill cannot answer the questions, and right answers say nothing.
const CANNOT: f64 = 0.05;

/// What a choice may cost in quality.
#[derive(Debug, Clone, Args, Serialize)]
pub(super) struct Limits {
    /// Where answers are known: share of right answers that may be lost against full prefill, at the
    /// upper end of its 95 % interval
    #[arg(long, value_name = "SHARE", default_value = "0.01", value_parser = parse_ratio)]
    pub(super) max_loss: f64,
    /// Where they are not: mean divergence from full prefill's next-token distribution, in nats, at the
    /// upper end of its 95 % interval
    #[arg(long, value_name = "NATS", default_value = "0.05")]
    pub(super) max_kl: f64,
    /// Where they are not: share of tokens whose likeliest next token is full prefill's, at the lower
    /// end of its 95 % interval
    #[arg(long, value_name = "SHARE", default_value = "0.95", value_parser = parse_ratio)]
    pub(super) min_top1: f64,
    /// Mean divergence in nats that rounding explains in the types of the model: not a flag.
    #[arg(skip)]
    pub(super) rounding_kl: f64,
}

impl Limits {
    /// Whether a mode keeps full prefill's quality for all that is known: the worse ends of the
    /// intervals count, because a few hundred questions cannot tell one point from two.
    pub(super) fn are_kept_by(&self, figures: &Figures) -> bool {
        let upper = figures.loss_ci.map(|(_, upper)| upper);
        let is_faithful = figures.kl_ci.1 <= self.max_kl && figures.top1_ci.0 >= self.min_top1;
        let is_enough = self.allowed(figures.n_answered) >= MUST_ALLOW_TO_CHOOSE;
        match upper.or(figures.loss()).filter(|_| figures.can_answer()) {
            Some(loss) => loss <= self.max_loss && (is_enough || is_faithful),
            None => is_faithful,
        }
    }

    /// Whether a mode that was chosen on other questions does on these what it was chosen for. The means count: the
    /// mode was not picked as the best of many on these questions, so they are not too good by luck.
    pub(super) fn are_confirmed_by(&self, figures: &Figures) -> bool {
        let is_faithful = figures.kl <= self.max_kl && figures.top1_agreement >= self.min_top1;
        let is_enough = self.allowed(figures.n_answered) >= MUST_ALLOW_TO_CONFIRM;
        match figures.loss().filter(|_| figures.can_answer()) {
            Some(loss) => loss <= self.max_loss && (is_enough || is_faithful),
            None => is_faithful,
        }
    }

    /// Of so many questions, those that may be lost.
    fn allowed(&self, n_answered: usize) -> f64 {
        n_answered as f64 * self.max_loss
    }

    /// Whether more questions may yet show that a mode keeps it.
    fn may_be_kept_by(&self, figures: &Figures) -> bool {
        match figures.loss().filter(|_| figures.can_answer()) {
            Some(loss) => loss <= self.max_loss + SECOND_CHANCE,
            None => {
                figures.kl <= self.max_kl * SECOND_CHANCE_KL
                    && figures.top1_agreement >= self.min_top1 - SECOND_CHANCE
            }
        }
    }
}

impl Figures {
    /// Whether full prefill answers enough of the questions for right answers to mean anything.
    fn can_answer(&self) -> bool {
        self.full_exact_match.is_some_and(|full| full >= CANNOT)
    }
}

/// The modes that may be chosen after more questions, the cheapest first; at least one.
pub(super) fn worth_another_look(figures: &[Figures], limits: &Limits) -> Vec<ModeSpec> {
    let policies = figures.iter().filter(|figures| figures.spec != REUSE);
    let hopeful = policies
        .clone()
        .filter(|figures| limits.may_be_kept_by(figures));
    let mut left: Vec<&Figures> = hopeful.collect();
    if left.is_empty() {
        left.extend(policies.min_by(|a, b| a.kl.total_cmp(&b.kl)));
    }
    left.sort_by(|a, b| a.computed_share.total_cmp(&b.computed_share));
    let specs = left.iter().map(|figures| figures.spec.parse().ok());
    specs.flatten().collect()
}

/// Whether a mode is shown to be nearer to full prefill than plain reuse on the same questions, at the worse end of the
/// interval; what is not only computes more. Where neither loses more than rounding explains, it need not be.
pub(super) fn is_shown_nearer(one: &Figures, all: &[Figures], limits: &Limits) -> bool {
    let is_nearer = one.kl_vs_reuse_ci.is_none_or(|(_, upper)| upper < 0.0);
    is_nearer || is_even(one, all, limits)
}

/// The same of a mode that was chosen on other questions: its mean counts.
pub(super) fn is_nearer(one: &Figures, all: &[Figures], limits: &Limits) -> bool {
    let is_nearer = one.kl_vs_reuse.is_none_or(|mean| mean < 0.0);
    is_nearer || is_even(one, all, limits)
}

/// Whether neither a mode nor plain reuse loses more than rounding explains.
fn is_even(one: &Figures, all: &[Figures], limits: &Limits) -> bool {
    let reuse = all.iter().find(|other| other.spec == REUSE);
    let is_lossless = |figures: &Figures| figures.kl <= limits.rounding_kl;
    is_lossless(one) && reuse.is_some_and(is_lossless)
}

/// The modes that keep full prefill's quality and are nearer to it than plain reuse, those that
/// compute least first; ties to the smaller divergence. None: only full prefill does.
pub(super) fn choices(figures: &[Figures], limits: &Limits) -> Vec<Figures> {
    let is_choice = |one: &&Figures| {
        one.spec != REUSE && limits.are_kept_by(one) && is_shown_nearer(one, figures, limits)
    };
    let mut kept: Vec<Figures> = figures.iter().filter(is_choice).cloned().collect();
    kept.sort_by(|a, b| {
        let by_work = a.computed_share.total_cmp(&b.computed_share);
        by_work.then(a.kl.total_cmp(&b.kl))
    });
    kept
}

/// Whether no other mode is at least as near to full prefill for less work: the Pareto front of
/// work against divergence.
pub(super) fn is_on_front(one: &Figures, all: &[Figures]) -> bool {
    let beats = |other: &Figures| {
        let no_worse = other.kl <= one.kl && other.computed_share <= one.computed_share;
        no_worse && (other.kl < one.kl || other.computed_share < one.computed_share)
    };
    !all.iter().any(beats)
}

#[cfg(test)]
pub(super) mod tests;
