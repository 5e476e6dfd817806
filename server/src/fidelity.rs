//! Measures how far a fused prompt's predictions are from those of full prefill. Pure.

/// Predictions of two prefills compared position by position.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Fidelity {
    pub positions: usize,
    /// Mean KL(full || other) over the positions, in nats.
    pub mean_kl: f64,
    pub max_kl: f64,
    /// Share of the positions with the same most likely token.
    pub top1_agreement: f64,
}

/// The largest divergence in nats, and the magnitude beyond which log-probabilities are not distinguished. In f64 such
/// a probability is 0 anyway.
pub const KL_CAP: f64 = 1e4;

/// Compares logits `[positions][vocab]` with those of full prefill on the same tokens. `None` if there is nothing to
/// compare, or if a logit is not finite, since no figure would be meaningful.
pub fn compare(full: &[Vec<f32>], other: &[Vec<f32>]) -> Option<Fidelity> {
    let same_shape = |(a, b): (&Vec<f32>, &Vec<f32>)| a.len() == b.len() && !a.is_empty();
    if full.is_empty() || full.len() != other.len() || !full.iter().zip(other).all(same_shape) {
        return None;
    }
    let mut logits = full.iter().chain(other).flatten();
    if !logits.all(|logit| logit.is_finite()) {
        return None;
    }
    let rows = || full.iter().zip(other);
    let positions = full.len();
    let kls: Vec<f64> = rows().map(|(a, b)| kl_divergence(a, b)).collect();
    let agreeing = rows().filter(|(a, b)| agrees_on_top1(a, b)).count();
    Some(Fidelity {
        positions,
        mean_kl: kls.iter().sum::<f64>() / positions as f64,
        max_kl: kls.iter().copied().fold(0.0, f64::max),
        top1_agreement: agreeing as f64 / positions as f64,
    })
}

/// KL(full || fused) in nats between the next-token distributions of two rows of logits `[vocab]`,
/// in `0..=`[`KL_CAP`], and finite whatever the logits are.
///
/// A logit of minus infinity or NaN rules its token out; if full prefill gives that token mass, the divergence grows
/// towards the cap. Tokens of plus infinity share all mass. A row that rules out every token is not a distribution: the
/// divergence from or to it is the cap.
///
/// # Panics
/// If the rows differ in length, which is a bug in the caller.
pub fn kl_divergence(full: &[f32], fused: &[f32]) -> f64 {
    assert_eq!(full.len(), fused.len(), "rows over one vocabulary");
    let (Some(full), Some(fused)) = (log_softmax(full), log_softmax(fused)) else {
        return KL_CAP;
    };
    let divergence: f64 = full
        .iter()
        .zip(&fused)
        .map(|(log_p, log_q)| log_p.exp() * (log_p - log_q))
        .sum();
    // Rounding may leave equal rows a little below zero.
    divergence.clamp(0.0, KL_CAP)
}

/// Whether both rows of logits `[vocab]` have their maximum at the same token; among equal ones the lower id counts.
/// NaN is never the maximum; a row of only NaN agrees with no row.
pub fn agrees_on_top1(full: &[f32], fused: &[f32]) -> bool {
    match (top1(full), top1(fused)) {
        (Some(full), Some(fused)) => full == fused,
        _ => false,
    }
}

/// Log-probabilities, none below `-KL_CAP`; `None` if no token is left.
fn log_softmax(logits: &[f32]) -> Option<Vec<f64>> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return None;
    }
    // The distance from the maximum, at most 0. It is 0 at an infinite maximum, too.
    let below_max = |&logit: &f32| match logit {
        _ if logit.is_nan() => -KL_CAP,
        _ if logit == max => 0.0,
        _ => (f64::from(logit) - f64::from(max)).max(-KL_CAP),
    };
    let shifted: Vec<f64> = logits.iter().map(below_max).collect();
    let log_sum = shifted.iter().map(|x| x.exp()).sum::<f64>().ln();
    Some(shifted.iter().map(|x| x - log_sum).collect())
}

fn top1(logits: &[f32]) -> Option<usize> {
    let usable = logits.iter().enumerate().filter(|(_, x)| !x.is_nan());
    let best = usable.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(idx, _)| idx)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f32 = f32::INFINITY;

    #[test]
    fn kl_is_that_of_the_distributions() {
        // p = (3/4, 1/4), q = (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2).
        let p = vec![3f32.ln(), 0.0];
        let q = vec![1.0, 1.0];
        let expected = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        let fidelity = compare(std::slice::from_ref(&p), &[q]).unwrap();
        assert!((fidelity.mean_kl - expected).abs() < 1e-7, "{fidelity:?}");
        // A constant on all logits changes nothing, and large ones do not overflow.
        let shifted: Vec<f32> = p.iter().map(|logit| logit + 3e4).collect();
        assert!(compare(&[p], &[shifted]).unwrap().mean_kl < 1e-3);
    }

    #[test]
    fn agreement_and_means_are_over_the_positions() {
        let full = [vec![0.0, 2.0, 1.0], vec![5.0, 5.0, 0.0]];
        let other = [vec![0.0, 2.0, 1.0], vec![0.0, 5.0, 0.0]];
        let fidelity = compare(&full, &other).unwrap();
        assert_eq!(fidelity.positions, 2);
        // Equals go to the lower id: token 0 against token 1 at the second position.
        assert!((fidelity.top1_agreement - 0.5).abs() < 1e-12);
        assert!((fidelity.mean_kl - fidelity.max_kl / 2.0).abs() < 1e-12);
        assert!(fidelity.max_kl > 1.0);
    }

    #[test]
    fn what_cannot_be_compared_has_no_figures() {
        assert_eq!(compare(&[], &[]), None);
        assert_eq!(compare(&[vec![1.0]], &[]), None);
        assert_eq!(compare(&[vec![1.0, 2.0]], &[vec![1.0]]), None);
        assert_eq!(compare(&[vec![1.0, 2.0]], &[vec![f32::NAN, 1.0]]), None);
    }

    fn assert_near(actual: f64, expected: f64) {
        assert!(
            (actual - expected).abs() < 1e-6,
            "{actual} is not {expected}"
        );
    }

    #[test]
    fn the_divergence_is_that_of_the_distributions() {
        // p = (3/4, 1/4) and q = (1/2, 1/2):
        // KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.304099 - 0.173287 = 0.130812.
        let full = [3.0_f32.ln(), 0.0];
        assert_near(kl_divergence(&full, &[0.0, 0.0]), 0.130_812);
        // The other way round: 1/2 ln(2/3) + 1/2 ln 2 = 0.143841.
        assert_near(kl_divergence(&[0.0, 0.0], &full), 0.143_841);
    }

    #[test]
    fn shifted_logits_are_the_same_distribution() {
        let full = [1000.0, 999.0, -1000.0];
        assert_near(kl_divergence(&full, &[1.0, 0.0, -1999.0]), 0.0);
        assert_eq!(kl_divergence(&full, &full), 0.0);
    }

    #[test]
    fn a_confident_mistake_costs_the_gap_in_nats() {
        // p is all on the first token, to which q gives exp(-100).
        assert_near(kl_divergence(&[0.0, -200.0], &[-100.0, 0.0]), 100.0);
    }

    #[test]
    fn no_logits_make_it_infinite() {
        let usable = [0.0, 1.0];
        assert_near(kl_divergence(&[0.0, -INF], &[0.0, -INF]), 0.0);
        // Half of the mass is on a token to which q gives none: (KL_CAP - ln 2) / 2 less ln 2 / 2.
        assert_near(
            kl_divergence(&[0.0, 0.0], &[0.0, f32::NAN]),
            KL_CAP / 2.0 - 2.0_f64.ln(),
        );
        assert_near(kl_divergence(&[INF, 0.0], &[INF, INF]), 2.0_f64.ln());
        for broken in [[f32::NAN; 2], [-INF; 2], [-INF, f32::NAN]] {
            assert_eq!(kl_divergence(&usable, &broken), KL_CAP);
            assert_eq!(kl_divergence(&broken, &usable), KL_CAP);
            assert_eq!(kl_divergence(&broken, &broken), KL_CAP);
        }
        let extremes = [f32::MAX, f32::MIN];
        assert_eq!(kl_divergence(&extremes, &[f32::MIN, f32::MAX]), KL_CAP);
        // Without the cap, ln 2 more: the tokens that are left share q's mass.
        let (ruled_out, left) = ([-INF, -INF, 0.0], [0.0, 0.0, -INF]);
        assert_eq!(kl_divergence(&ruled_out, &left), KL_CAP);
        assert_eq!(kl_divergence(&[], &[]), KL_CAP);
    }

    #[test]
    fn the_top_token_is_the_first_of_the_largest() {
        assert!(agrees_on_top1(&[0.0, 2.0, 1.0], &[-5.0, -1.0, -2.0]));
        assert!(!agrees_on_top1(&[0.0, 2.0, 1.0], &[0.0, 1.0, 2.0]));
        assert!(agrees_on_top1(&[2.0, 2.0], &[1.0, 0.0]));
        assert!(agrees_on_top1(&[f32::NAN, 2.0], &[0.0, 1.0]));
        assert!(!agrees_on_top1(&[f32::NAN], &[f32::NAN]));
        assert!(!agrees_on_top1(&[], &[]));
    }
}
