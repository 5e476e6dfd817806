//! How far vectors under a policy are from those of full prefill; predictions are compared by the
//! server's own measure.

/// The L2 norm of the difference over that of `reference`: 0 if equal, 1 as far off as zeros.
///
/// `None` if the reference is all zeros and the other is not, or where a value is not finite.
///
/// # Panics
/// If the vectors differ in length, which is a mistake of the caller.
pub fn relative_l2(reference: &[f32], other: &[f32]) -> Option<f64> {
    assert_eq!(reference.len(), other.len(), "vectors of one space");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let pairs = reference.iter().zip(other);
    let difference = norm(&mut pairs.map(|(&a, &b)| f64::from(a) - f64::from(b)));
    let length = norm(&mut reference.iter().map(|&a| f64::from(a)));
    if difference == 0.0 {
        return Some(0.0);
    }
    Some(difference / length).filter(|ratio| ratio.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f32 = f32::INFINITY;

    #[test]
    fn the_distance_is_relative_to_the_reference() {
        // (3, 4) has length 5; (0, 4) lies 3 off it, zeros 5.
        assert_eq!(relative_l2(&[3.0, 4.0], &[0.0, 4.0]), Some(0.6));
        assert_eq!(relative_l2(&[3.0, 4.0], &[0.0, 0.0]), Some(1.0));
        assert_eq!(relative_l2(&[0.0, 0.0], &[0.0, 0.0]), Some(0.0));
        assert_eq!(relative_l2(&[], &[]), Some(0.0));
        assert_eq!(relative_l2(&[0.0], &[1.0]), None);
        assert_eq!(relative_l2(&[1.0], &[f32::NAN]), None);
        assert_eq!(relative_l2(&[INF], &[1.0]), None);
    }
}
