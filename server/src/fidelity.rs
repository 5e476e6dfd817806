//! How far a fused prompt's predictions are from those of full prefill. Pure.

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

/// Compares logits `[positions][vocab]` with those of full prefill on the same tokens. `None` where there is nothing to
/// compare, or where a logit is not finite: no figure would mean anything then.
pub fn compare(full: &[Vec<f32>], other: &[Vec<f32>]) -> Option<Fidelity> {
    let same_shape = |(a, b): (&Vec<f32>, &Vec<f32>)| a.len() == b.len() && !a.is_empty();
    if full.is_empty() || full.len() != other.len() || !full.iter().zip(other).all(same_shape) {
        return None;
    }
    if !full
        .iter()
        .chain(other)
        .flatten()
        .all(|logit| logit.is_finite())
    {
        return None;
    }
    let positions = full.len();
    let kls: Vec<f64> = full.iter().zip(other).map(|(a, b)| kl(a, b)).collect();
    let agreeing = full
        .iter()
        .zip(other)
        .filter(|(a, b)| top_token(a) == top_token(b));
    Some(Fidelity {
        positions,
        mean_kl: kls.iter().sum::<f64>() / positions as f64,
        max_kl: kls.iter().copied().fold(0.0, f64::max),
        top1_agreement: agreeing.count() as f64 / positions as f64,
    })
}

/// KL(p || q) in nats of the distributions that two rows of logits stand for; never negative.
fn kl(p: &[f32], q: &[f32]) -> f64 {
    let (log_p, log_q) = (log_softmax(p), log_softmax(q));
    let terms = log_p.iter().zip(&log_q).map(|(p, q)| p.exp() * (p - q));
    terms.sum::<f64>().max(0.0) // rounding can leave a small negative sum
}

/// Log probabilities, in f64 and with the largest logit taken off, so that no exponential overflows.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = || {
        logits
            .iter()
            .map(|&logit| f64::from(logit) - f64::from(largest))
    };
    let log_sum = shifted().map(f64::exp).sum::<f64>().ln();
    shifted().map(|logit| logit - log_sum).collect()
}

/// The most likely token; of equals the one with the lowest id.
fn top_token(logits: &[f32]) -> usize {
    let better =
        |best: usize, (id, &logit): (usize, &f32)| if logit > logits[best] { id } else { best };
    logits.iter().enumerate().fold(0, better)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
