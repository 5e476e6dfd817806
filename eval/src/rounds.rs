//! The order of interleaved measurements.

/// The order in which `n` modes run in one round. Each round begins with another mode, so that
/// neither a slow moment of the machine nor the warmth the one before leaves behind stays with one.
pub(crate) fn rotated(n: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..n).map(move |place| (place + round) % n)
}

#[cfg(test)]
mod tests {
    use super::rotated;

    #[test]
    fn every_round_runs_every_mode_once_and_begins_with_the_next() {
        assert_eq!(rotated(3, 0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(rotated(3, 1).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(rotated(3, 5).collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!(rotated(0, 1).count(), 0);
    }
}
