//! Summaries of samples: mean, share, percentile.

use std::time::Duration;

pub fn mean(samples: &[f64]) -> Option<f64> {
    (!samples.is_empty()).then(|| samples.iter().sum::<f64>() / samples.len() as f64)
}

/// The mean of each column over the rows that have a value there.
pub fn column_means<'a>(
    rows: impl Iterator<Item = &'a Vec<Option<f64>>> + Clone,
) -> Vec<Option<f64>> {
    let n = rows.clone().map(Vec::len).max().unwrap_or_default();
    let of_column = |column: usize| {
        let values = rows.clone().filter_map(|row| *row.get(column)?);
        mean(&values.collect::<Vec<f64>>())
    };
    (0..n).map(of_column).collect()
}

/// The share of `true` in `0..=1`; `None` of nothing.
pub fn share(outcomes: impl IntoIterator<Item = bool>) -> Option<f64> {
    let (mut hits, mut n) = (0_usize, 0_usize);
    for outcome in outcomes {
        hits += usize::from(outcome);
        n += 1;
    }
    (n > 0).then(|| hits as f64 / n as f64)
}

/// The value below which `percent` of the samples lie, interpolated linearly between the two
/// nearest ranks; `None` of nothing.
///
/// `percent` lies in `0..=100`.
pub fn percentile(samples: &[f64], percent: f64) -> Option<f64> {
    debug_assert!(
        (0.0..=100.0).contains(&percent),
        "a percentile is between 0 and 100"
    );
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = percent / 100.0 * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    Some(below + (above - below) * rank.fract())
}

/// The middle sample; `None` of nothing.
pub fn median(samples: &[f64]) -> Option<f64> {
    percentile(samples, 50.0)
}

pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_nothing_is_nothing() {
        assert_eq!(mean(&[1.0, 2.0, 6.0]), Some(3.0));
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn percentiles_interpolate_between_ranks() {
        let samples = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(percentile(&samples, 0.0), Some(1.0));
        assert_eq!(percentile(&samples, 100.0), Some(4.0));
        assert_eq!(median(&samples), Some(2.5));
        assert_eq!(
            percentile(&samples, 90.0).map(|x| (x * 1e6).round()),
            Some(3.7e6)
        );
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn one_slow_sample_does_not_move_the_median() {
        assert_eq!(median(&[1.0, 1000.0, 2.0]), Some(2.0));
    }

    #[test]
    fn shares_of_nothing_are_nothing() {
        assert_eq!(share([true, false, true, true]), Some(0.75));
        assert_eq!(share([]), None);
    }

    #[test]
    fn columns_are_averaged_over_the_rows_that_have_them() {
        let rows = [vec![None, Some(1.0), Some(4.0)], vec![None, Some(2.0)]];
        assert_eq!(column_means(rows.iter()), [None, Some(1.5), Some(4.0)]);
        assert!(column_means([].iter()).is_empty());
    }
}
