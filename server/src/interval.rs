//! The mean of a few samples with its 95 % interval, by Student's t. Pure.

use serde::{Deserialize, Serialize};

/// With fewer samples than this, a choice may be due to chance.
pub const FEW: usize = 30;

/// A mean and its range: 95 % of such intervals hold the true mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

/// The 97.5 % point of Student's t for 1 to 30 degrees of freedom.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

impl Interval {
    /// `None` without samples, or if one is not finite. One sample gives no information about the spread: its interval
    /// holds every number.
    pub fn of(samples: &[f64]) -> Option<Self> {
        if samples.is_empty() || !samples.iter().all(|sample| sample.is_finite()) {
            return None;
        }
        let n = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / n;
        let Some(freedom) = samples.len().checked_sub(2) else {
            return Some(Self {
                mean,
                low: f64::MIN,
                high: f64::MAX,
            });
        };
        let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
        let error = (squares / (n - 1.0) / n).sqrt();
        let half = T.get(freedom).copied().unwrap_or(T[29]) * error;
        Some(Self {
            mean,
            low: mean - half,
            high: mean + half,
        })
    }

    /// Whether the whole interval is below zero.
    pub fn is_below_zero(&self) -> bool {
        self.high < 0.0
    }

    /// Whether the whole interval is above zero.
    pub fn is_above_zero(&self) -> bool {
        self.low > 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_students() {
        // Mean 2, standard deviation 1, its error 1 / sqrt(3), t of two degrees 4.303.
        let of = Interval::of(&[1.0, 2.0, 3.0]).unwrap();
        let half = 4.303 / 3f64.sqrt();
        assert!((of.mean - 2.0).abs() < 1e-12);
        assert!((of.low - (2.0 - half)).abs() < 1e-9 && (of.high - (2.0 + half)).abs() < 1e-9);
        assert!(!of.is_above_zero() && !of.is_below_zero());
    }

    #[test]
    fn more_of_the_same_says_more() {
        let twice = |n: usize| Interval::of(&[1.0, 3.0].repeat(n)).unwrap();
        assert!(!twice(1).is_above_zero() && twice(40).is_above_zero());
        assert!(twice(40).high < twice(4).high);
    }

    #[test]
    fn one_sample_says_nothing_about_the_spread_and_none_has_no_interval() {
        let one = Interval::of(&[5.0]).unwrap();
        assert!(one.low < -1e300 && one.high > 1e300);
        assert_eq!(Interval::of(&[]), None);
        assert_eq!(Interval::of(&[1.0, f64::NAN]), None);
    }
}
