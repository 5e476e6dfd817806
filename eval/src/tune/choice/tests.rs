//! Choices from hand-made figures.

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
    let of = |loss: Option<f64>, kl| figures("query:0.05", loss.map(|loss| 0.9 - loss), kl, 0.3);
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
