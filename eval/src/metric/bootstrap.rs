//! Percentile bootstrap intervals (Efron 1979), seeded: one seed, one interval, on any machine.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::sample::percentile;

const RESAMPLES: usize = 1000;

/// The 95 % percentile interval of the mean, from 1000 resamples.
///
/// `None` without samples, and if a sample is not finite. One sample, or equal ones, give an
/// interval without width: it says that nothing is known of the spread, not that there is none.
pub fn bootstrap_ci(samples: &[f64], seed: u64) -> Option<(f64, f64)> {
    if samples.is_empty() || !samples.iter().all(|sample| sample.is_finite()) {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut mean_of_resample = || {
        let drawn = samples
            .iter()
            .map(|_| samples[rng.random_range(0..samples.len())]);
        drawn.sum::<f64>() / samples.len() as f64
    };
    let means: Vec<f64> = (0..RESAMPLES).map(|_| mean_of_resample()).collect();
    Some((percentile(&means, 2.5)?, percentile(&means, 97.5)?))
}

/// The interval of the mean difference `left - right` of two scores of the same items. Far
/// narrower than two intervals side by side where the items differ more than the scores do; where
/// it holds 0, the two cannot be told apart.
pub fn paired_difference_ci(pairs: &[(f64, f64)], seed: u64) -> Option<(f64, f64)> {
    let differences: Vec<f64> = pairs.iter().map(|(left, right)| left - right).collect();
    bootstrap_ci(&differences, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` outcomes of which `hits` are 1.
    fn outcomes(hits: usize, n: usize) -> Vec<f64> {
        (0..n).map(|i| f64::from(i < hits)).collect()
    }

    #[test]
    fn the_interval_of_a_share_is_near_the_normal_one() {
        // 60 of 100: 0.6 +- 1.96 * sqrt(0.6 * 0.4 / 100) = 0.504 .. 0.696; the spread of the
        // 2.5 % point over 1000 resamples is about 0.003, and means come in steps of 0.01.
        let (low, high) = bootstrap_ci(&outcomes(60, 100), 7).unwrap();
        assert!(
            (low - 0.504).abs() < 0.02 && (high - 0.696).abs() < 0.02,
            "{low} {high}"
        );
    }

    #[test]
    fn a_seed_gives_one_interval_and_another_gives_another() {
        let samples: Vec<f64> = (0..50).map(|i| f64::from(i).sin()).collect();
        assert_eq!(bootstrap_ci(&samples, 1), bootstrap_ci(&samples, 1));
        assert_ne!(bootstrap_ci(&samples, 1), bootstrap_ci(&samples, 2));
    }

    #[test]
    fn the_interval_of_a_seed_is_fixed_forever() {
        // Not derived by hand: a change means that the generator or its use changed, and that
        // published intervals cannot be made again.
        let samples: Vec<f64> = (0..20).map(|i| f64::from(i * i)).collect();
        assert_eq!(
            bootstrap_ci(&samples, 42),
            Some((77.4775, 170.20749999999998))
        );
    }

    #[test]
    fn equal_samples_have_no_width_and_nothing_has_no_interval() {
        assert_eq!(bootstrap_ci(&[0.5; 4], 1), Some((0.5, 0.5)));
        assert_eq!(bootstrap_ci(&[1.0], 1), Some((1.0, 1.0)));
        assert_eq!(bootstrap_ci(&[], 1), None);
        assert_eq!(bootstrap_ci(&[1.0, f64::NAN], 1), None);
    }

    #[test]
    fn pairs_show_a_difference_that_their_spread_would_hide() {
        // Items from 0 to 1, each scored 0.25 lower by one of two: the difference is the same
        // for every item, so the interval has no width, while those of the scores overlap.
        let pairs: Vec<(f64, f64)> = (0..9)
            .map(|i| f64::from(i) / 8.0)
            .map(|x| (x, x - 0.25))
            .collect();
        assert_eq!(paired_difference_ci(&pairs, 3), Some((0.25, 0.25)));
        let (left, right): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        assert!(bootstrap_ci(&left, 3).unwrap().0 < bootstrap_ci(&right, 3).unwrap().1);
    }
}
