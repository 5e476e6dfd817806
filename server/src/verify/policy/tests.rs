//! Judges policies by hand-made figures.

use ragweave_engine::{ComputeDtype, KvDtype};

use super::super::judge::Tolerances;
use super::*;

/// The divergence that rounding explains in f32.
pub(crate) const ROUNDING: f64 = 1e-4;

/// One prompt of one position.
pub(crate) fn sample(kl: f64, top1: f64) -> Sample {
    Sample {
        fidelity: Some(Fidelity {
            positions: 1,
            mean_kl: kl,
            max_kl: kl,
            top1_agreement: top1,
        }),
        computed_share: 0.25,
    }
}

/// Samples around a divergence, with the first `agreeing` of eight on full prefill's token.
pub(crate) fn around(kl: f64, agreeing: usize) -> Vec<Sample> {
    let spread = [0.6, 1.4, 0.8, 1.2, 0.9, 1.1, 0.7, 1.3];
    let top1 = |n: usize| f64::from(u8::from(n < agreeing));
    let all = spread.iter().enumerate();
    all.map(|(n, factor)| sample(kl * factor, top1(n)))
        .collect()
}

fn compared(mode: &str, samples: &[Sample], reuse: &[Sample]) -> Compared {
    Compared::new(&mode.parse().unwrap(), samples, reuse, ROUNDING)
}

pub(crate) fn needles(probed: &[Sample], reuse: &[Sample], others: Vec<Compared>) -> Needles {
    Needles {
        prompts: reuse.len(),
        seconds: 1.0,
        n_layers: Some(4),
        reuse: overall(reuse),
        probed: compared("hkvd@1:0.15", probed, reuse),
        others,
    }
}

#[test]
fn a_policy_that_wins_back_what_reuse_loses_helps() {
    let (reuse, blend) = (around(0.3, 6), around(0.1, 7));
    let helps = compared("query/all:0.15", &blend, &reuse);
    assert_eq!(helps.outcome, Outcome::Helps);
    assert!(helps.passes() && helps.kl_vs_reuse.mean < -0.19);
    assert!((helps.computed_share - 0.25).abs() < 1e-12);
    assert_eq!(
        needles(&blend, &reuse, Vec::new())
            .probed
            .refusal(&needles(&blend, &reuse, Vec::new())),
        None
    );
}

#[test]
fn a_policy_that_is_worse_than_reuse_does_not_pass() {
    // What SmolLM2-135M-Instruct showed: KL 0.346 against 0.326, the same next token in 3 of 8 against 6 of 8.
    let reuse = around(0.326, 6);
    let shifted: Vec<Sample> = (0..8)
        .map(|n| {
            sample(
                0.346 * if n % 2 == 0 { 1.9 } else { 0.1 },
                f64::from(u8::from(n < 3)),
            )
        })
        .collect();
    let unclear = needles(&shifted, &reuse, Vec::new());
    assert!(!unclear.probed.passes(), "{unclear:?}");
    let why = unclear.probed.refusal(&unclear).unwrap();
    for word in [
        "hkvd@1:0.15",
        "plain reuse",
        "0.346",
        "0.326",
        "38 %",
        "75 %",
        "8 prompts",
    ] {
        assert!(why.contains(word), "no {word} in {why}");
    }
    let hurts = compared("first-k:0.15", &around(0.6, 6), &reuse);
    assert_eq!(hurts.outcome, Outcome::Hurts);
    assert!(!hurts.passes());
}

#[test]
fn better_on_average_is_not_enough() {
    let reuse = around(0.3, 6);
    let noisy: Vec<Sample> = (0..8)
        .map(|n| sample(if n == 0 { 1.9 } else { 0.02 }, 1.0))
        .collect();
    let noisy = compared("hkvd@1:0.15", &noisy, &reuse);
    assert!(noisy.kl_vs_reuse.mean < -0.03, "{noisy:?}");
    assert_eq!(noisy.outcome, Outcome::Unclear);
    assert!(!noisy.passes());
}

#[test]
fn nearer_in_divergence_and_further_in_tokens_is_unclear() {
    let (reuse, blend) = (around(0.3, 8), around(0.1, 2));
    assert_eq!(
        compared("hkvd@1:0.15", &blend, &reuse).outcome,
        Outcome::Unclear
    );
}

#[test]
fn where_reuse_loses_nothing_there_is_nothing_to_win_back() {
    let same = around(1e-6, 8);
    assert_eq!(compared("hkvd@1:0.15", &same, &same).outcome, Outcome::Even);
    let reuse = around(0.3, 4);
    assert_eq!(compared("reuse", &reuse, &reuse).outcome, Outcome::Even);
    assert!(
        !compared("hkvd@1:0.15", &reuse, &reuse).passes(),
        "it computes more and gives no more"
    );
}

#[test]
fn what_rounding_explains_depends_on_the_type() {
    let (reuse, blend) = (around(5e-4, 8), around(5.1e-4, 8));
    let outcome = |dtype, kv_dtype| {
        let rounding = Tolerances::of(dtype, kv_dtype).kl;
        Compared::new(&"hkvd@1:0.15".parse().unwrap(), &blend, &reuse, rounding).outcome
    };
    assert_eq!(outcome(ComputeDtype::Bf16, KvDtype::Bf16), Outcome::Even);
    assert_eq!(outcome(ComputeDtype::F32, KvDtype::Int8), Outcome::Even);
    assert_ne!(outcome(ComputeDtype::F32, KvDtype::F32), Outcome::Even);
}

#[test]
fn lost_answers_are_lost_whatever_reuse_gives() {
    let (reuse, blend) = (around(3.0, 0), around(1.5, 3));
    assert_eq!(
        compared("hkvd@1:0.15", &blend, &reuse).outcome,
        Outcome::Lost
    );
    let half = around(1.5, 4);
    assert_eq!(
        compared("hkvd@1:0.15", &half, &reuse).outcome,
        Outcome::Helps
    );
}

#[test]
fn logits_that_are_not_finite_count_and_survive_json() {
    let broken = [Sample {
        fidelity: None,
        computed_share: 0.2,
    }; 8];
    let needles = needles(&broken, &around(0.3, 6), Vec::new());
    assert_eq!(needles.probed.outcome, Outcome::Lost);
    assert!(
        needles
            .probed
            .refusal(&needles)
            .unwrap()
            .contains("over 10000 nats")
    );
    let text = serde_json::to_string(&needles).unwrap();
    let read: Needles = serde_json::from_str(&text).unwrap();
    assert_eq!((read.probed.outcome, read.prompts), (Outcome::Lost, 8));
}

#[test]
fn the_advice_is_the_policy_that_helps_most_with_its_exact_setting() {
    let reuse = around(0.3, 6);
    let others = vec![
        compared("first-k:0.15", &around(0.2, 6), &reuse),
        compared("query/all:0.15", &around(0.1, 7), &reuse),
        compared("hkvd@2:0.15", &around(0.6, 6), &reuse),
    ];
    let advised = needles(&reuse, &reuse, others);
    let advice = advised.advice();
    assert!(
        advice.contains("set fusion.selection = \"query/all\" and fusion.ratio = 0.15"),
        "{advice}"
    );
    assert!(advice.contains("67 % of reuse's loss won back"), "{advice}");
    let none = needles(&reuse, &reuse, Vec::new()).advice();
    assert!(none.contains("fusion.mode = \"full\""), "{none}");
}

#[test]
fn what_computes_everything_is_not_advised() {
    let reuse = around(0.3, 6);
    let rival = compared("query/all:0.15", &around(0.1, 7), &reuse);
    for everything in ["full", "all"] {
        let everything = compared(everything, &around(0.0, 8), &reuse);
        assert_eq!(everything.outcome, Outcome::Helps);
        let advised = Needles {
            probed: everything,
            ..needles(&reuse, &reuse, vec![rival.clone()])
        };
        let advice = advised.advice();
        assert!(
            advice.contains("fusion.selection = \"query/all\""),
            "{advice}"
        );
    }
}
