//! From figures to a choice. Pure.

use clap::Args;
use serde::Serialize;

use super::search::Figures;
use crate::cli::parse_ratio;
use crate::mode_spec::ModeSpec;

/// Modes that get another look may lose so much more than allowed: the first look is a short one.
const SECOND_CHANCE: f64 = 0.08;
/// And may diverge so many times more.
const SECOND_CHANCE_KL: f64 = 4.0;
/// So many get another look at a time, the cheapest first.
pub(super) const BATCH: usize = 24;
/// Where n questions lose nothing, 3 / n may yet be lost (the rule of three): where fewer than three losses of those
/// questions are allowed, right answers do not decide alone.
const MUST_ALLOW_TO_CHOOSE: f64 = 3.0;
/// Where not even one loss is allowed, no loss in so few questions confirms nothing alone.
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
    let mut left: Vec<&Figures> = policies
        .clone()
        .filter(|figures| limits.may_be_kept_by(figures))
        .collect();
    if left.is_empty() {
        left.extend(policies.min_by(|a, b| a.kl.total_cmp(&b.kl)));
    }
    left.sort_by(|a, b| a.computed_share.total_cmp(&b.computed_share));
    left.iter()
        .filter_map(|figures| figures.spec.parse().ok())
        .collect()
}

/// What computes nothing again: measured beside the policies, and not chosen.
pub(super) const REUSE: &str = "reuse";

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
pub(super) mod tests {
    use super::*;

    pub(in crate::tune) const LIMITS: Limits = Limits {
        max_loss: 0.01,
        max_kl: 0.05,
        min_top1: 0.95,
        rounding_kl: 1e-4,
    };

    pub(in crate::tune) fn figures(
        spec: &str,
        exact_match: Option<f64>,
        kl: f64,
        computed_share: f64,
    ) -> Figures {
        Figures {
            spec: spec.to_owned(),
            n: 400,
            n_answered: 400,
            exact_match,
            full_exact_match: exact_match.map(|_| 0.9),
            loss_ci: None,
            kl,
            kl_ci: (kl, kl),
            kl_vs_reuse: None,
            kl_vs_reuse_ci: None,
            top1_agreement: 1.0 - kl,
            top1_ci: (1.0 - kl, 1.0 - kl),
            computed_share,
            ttft_ms_p50: 1.0,
        }
    }

    /// So far beside reuse, give or take a hundredth of a nat.
    pub(in crate::tune) fn beside_reuse(figures: Figures, difference: f64) -> Figures {
        Figures {
            kl_vs_reuse: Some(difference),
            kl_vs_reuse_ci: Some((difference - 0.01, difference + 0.01)),
            ..figures
        }
    }

    fn choose(figures: &[Figures], limits: &Limits) -> Option<Figures> {
        choices(figures, limits).into_iter().next()
    }

    #[test]
    fn the_cheapest_mode_within_the_limit_is_chosen() {
        let all = [
            figures("hkvd@2:0.1", Some(0.9), 0.001, 0.7),
            figures("query:0.05", Some(0.895), 0.01, 0.3),
            figures("query:0.02", Some(0.88), 0.02, 0.2),
            figures("first-k:0.05", Some(0.4), 2.0, 0.1),
        ];
        assert_eq!(choose(&all, &LIMITS).unwrap().spec, "query:0.05");
        let left: Vec<String> = worth_another_look(&all, &LIMITS)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(left, ["query:0.02", "query:0.05", "hkvd@2:0.1"]);
        let front: Vec<bool> = all.iter().map(|one| is_on_front(one, &all)).collect();
        assert_eq!(front, [true, true, true, true]);
    }

    #[test]
    fn a_loss_that_could_be_larger_is_not_within_the_limit() {
        let uncertain = Figures {
            loss_ci: Some((0.0, 0.015)),
            ..figures("query:0.05", Some(0.895), 0.01, 0.3)
        };
        let certain = Figures {
            loss_ci: Some((0.0, 0.01)),
            ..uncertain.clone()
        };
        assert_eq!(choose(std::slice::from_ref(&uncertain), &LIMITS), None);
        let few = Figures {
            n_answered: 3,
            loss_ci: Some((0.0, 0.0)),
            kl: 0.4,
            kl_ci: (0.4, 0.4),
            ..uncertain.clone()
        };
        assert_eq!(
            choose(&[few], &LIMITS),
            None,
            "three questions show nothing"
        );
        assert!(choose(&[certain], &LIMITS).is_some());
        assert_eq!(worth_another_look(&[uncertain], &LIMITS).len(), 1);
    }

    #[test]
    fn without_answers_fidelity_decides() {
        let all = [
            figures("query:0.05", None, 0.04, 0.3),
            figures("query:0.02", None, 0.06, 0.2),
        ];
        assert_eq!(choose(&all, &LIMITS).unwrap().spec, "query:0.05");
        let agreeing_less = Figures {
            top1_ci: (0.9, 0.99),
            ..all[0].clone()
        };
        assert_eq!(choose(&[agreeing_less], &LIMITS), None);
        let of_few = Figures {
            kl_ci: (0.01, 0.07),
            ..all[0].clone()
        };
        assert_eq!(choose(&[of_few], &LIMITS), None, "a mean of few is luck");
    }

    #[test]
    fn other_questions_confirm_a_choice_or_do_not() {
        let of =
            |loss: Option<f64>, kl| figures("query:0.05", loss.map(|loss| 0.9 - loss), kl, 0.3);
        assert!(LIMITS.are_confirmed_by(&of(Some(0.009), 0.3)));
        assert!(!LIMITS.are_confirmed_by(&of(Some(0.03), 0.001)));
        let few = |kl| Figures {
            n_answered: 3,
            ..of(Some(0.0), kl)
        };
        assert!(
            !LIMITS.are_confirmed_by(&few(0.3)),
            "none lost of three says nothing of KL 0.3"
        );
        assert!(LIMITS.are_confirmed_by(&few(0.04)));
        assert!(LIMITS.are_confirmed_by(&of(None, 0.04)));
        assert!(
            !LIMITS.are_confirmed_by(&of(None, 0.379)),
            "it was 0.034 where it was chosen"
        );
    }

    #[test]
    fn a_mode_that_is_not_shown_to_be_nearer_than_reuse_is_not_chosen() {
        let all = [
            beside_reuse(figures("first-k:0.05", None, 0.03, 0.2), 0.01),
            beside_reuse(figures("anchors:0.05", None, 0.015, 0.25), -0.005),
            beside_reuse(figures("query:0.05", None, 0.005, 0.3), -0.015),
            figures(REUSE, None, 0.02, 0.1),
        ];
        assert!(
            is_nearer(&all[1], &all, &LIMITS),
            "its mean would do where it was chosen before"
        );
        assert!(!is_nearer(&all[0], &all, &LIMITS));
        let chosen: Vec<String> = choices(&all, &LIMITS)
            .into_iter()
            .map(|of| of.spec)
            .collect();
        assert_eq!(chosen, ["query:0.05"]);
    }

    #[test]
    fn where_reuse_loses_nothing_a_mode_that_loses_nothing_is_as_good() {
        let all = [
            beside_reuse(figures("query:0.05", None, 2e-5, 0.3), 1e-5),
            beside_reuse(figures("first-k:0.05", None, 2e-3, 0.2), 2e-3),
            figures(REUSE, None, 1e-5, 0.1),
        ];
        assert_eq!(choose(&all, &LIMITS).unwrap().spec, "query:0.05");
        assert!(is_nearer(&all[0], &all, &LIMITS) && !is_nearer(&all[1], &all, &LIMITS));
    }

    #[test]
    fn of_modes_that_cost_the_same_the_nearer_one_comes_first() {
        let all = [
            figures("query:0.05", None, 0.04, 0.3),
            figures("anchors:0.05", None, 0.02, 0.3),
            figures("hkvd@1:0.05", None, 0.01, 0.4),
        ];
        let specs: Vec<String> = choices(&all, &LIMITS)
            .into_iter()
            .map(|of| of.spec)
            .collect();
        assert_eq!(specs, ["anchors:0.05", "query:0.05", "hkvd@1:0.05"]);
    }

    #[test]
    fn answers_that_full_prefill_cannot_give_do_not_count() {
        let mut hopeless = figures("query:0.05", Some(0.0), 3.0, 0.3);
        hopeless.full_exact_match = Some(0.0);
        assert_eq!(
            choose(&[hopeless], &LIMITS),
            None,
            "equal, but far from full prefill"
        );
    }

    #[test]
    fn where_nothing_holds_full_prefill_is_left_and_one_mode_is_looked_at_again() {
        let all = [
            figures("first-k:0.1", Some(0.3), 2.0, 0.1),
            figures("random:0.1", Some(0.2), 3.0, 0.1),
        ];
        assert_eq!(choose(&all, &LIMITS), None);
        assert_eq!(
            worth_another_look(&all, &LIMITS)[0].to_string(),
            "first-k:0.1"
        );
    }
}
