//! Whether deviation is sparse, and whether one layer predicts the next (CacheBlend's two
//! insights): the share of the mass in the largest values, and rank correlation.

/// Spearman's rank correlation of two lists over the same items, in `-1..=1`; equal values share
/// the mean of their ranks.
///
/// `None` if no order can be compared: fewer than two items, or a list of equal values.
///
/// # Panics
/// If the lists differ in length, which is a mistake of the caller.
pub fn spearman(a: &[f32], b: &[f32]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "lists over the same items");
    pearson(&ranks(a), &ranks(b))
}

/// The share of the sum of `values` that the largest `share` of them holds; with values drawn
/// alike it is `share` itself, and 1 if they hold everything.
///
/// `share` lies in `0..=1`. Where it is not a whole number of values, the next largest counts in
/// part, so that lists of different lengths compare. Values are not negative; those that are, or
/// are not finite, count as 0. `None` if the sum is 0.
pub fn top_share(values: &[f32], share: f64) -> Option<f64> {
    debug_assert!((0.0..=1.0).contains(&share), "a share of the values");
    let mass = |x: f32| {
        if x.is_finite() {
            f64::from(x).max(0.0)
        } else {
            0.0
        }
    };
    let mut sorted: Vec<f64> = values.iter().map(|&x| mass(x)).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let n_top = share * sorted.len() as f64;
    let (whole, part) = (n_top.floor() as usize, n_top.fract());
    let top: f64 = sorted.iter().take(whole).sum();
    let rest = sorted.get(whole).map_or(0.0, |next| next * part);
    let total: f64 = sorted.iter().sum();
    (total > 0.0).then(|| (top + rest) / total)
}

/// Ranks counted from 0 upwards.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for ties in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let mean_rank = first as f64 + (ties.len() - 1) as f64 / 2.0;
        for &idx in ties {
            ranks[idx] = mean_rank;
        }
        first += ties.len();
    }
    ranks
}

fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut covariance, mut variance_a, mut variance_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        covariance += a * b;
        variance_a += a * a;
        variance_b += b * b;
    }
    let spread = (variance_a * variance_b).sqrt();
    (spread > 0.0).then(|| (covariance / spread).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(actual: Option<f64>, expected: f64) -> bool {
        actual.is_some_and(|actual| (actual - expected).abs() < 1e-12)
    }

    #[test]
    fn only_the_order_of_values_counts() {
        assert!(near(spearman(&[1.0, 2.0, 3.0], &[10.0, 200.0, 201.0]), 1.0));
        assert!(near(spearman(&[1.0, 2.0, 3.0], &[0.3, 0.2, 0.1]), -1.0));
        // Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * (1 + 1) / (4 * 15) = 0.8.
        let swapped = [1.0, 3.0, 2.0, 4.0];
        assert!(near(spearman(&[1.0, 2.0, 3.0, 4.0], &swapped), 0.8));
    }

    #[test]
    fn equal_values_share_their_ranks() {
        // Ranks 1 2.5 2.5 4 against 1 2 3 4, about their mean of 2.5: covariance
        // 2.25 + 0 + 0 + 2.25 = 4.5, squares 4.5 and 5, so 4.5 / sqrt(22.5) = 0.9486832980505138.
        let tied = spearman(&[1.0, 5.0, 5.0, 9.0], &[1.0, 2.0, 3.0, 4.0]);
        assert!(near(tied, 0.948_683_298_050_513_8), "{tied:?}");
    }

    #[test]
    fn without_an_order_there_is_no_correlation() {
        assert_eq!(spearman(&[], &[]), None);
        assert_eq!(spearman(&[1.0], &[1.0]), None);
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn the_top_holds_the_largest_values() {
        // Of 20 in all, the largest of five is 10, the two largest are 16.
        let values = [1.0, 10.0, 2.0, 6.0, 1.0];
        assert_eq!(top_share(&values, 0.2), Some(0.5));
        assert_eq!(top_share(&values, 0.4), Some(0.8));
        // 0.3 of five values is one and a half: 10 + 6 / 2.
        assert!(near(top_share(&values, 0.3), 0.65));
        assert_eq!(top_share(&values, 0.0), Some(0.0));
        assert_eq!(top_share(&values, 1.0), Some(1.0));
    }

    #[test]
    fn equal_values_have_no_top_and_no_mass_has_no_share() {
        assert!(near(top_share(&[2.0; 7], 0.15), 0.15));
        assert_eq!(top_share(&[0.0; 3], 0.1), None);
        assert_eq!(top_share(&[], 0.1), None);
        assert_eq!(top_share(&[f32::NAN, 3.0, -1.0, 1.0], 0.25), Some(0.75));
    }
}
