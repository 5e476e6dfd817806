//! How much of what reuse loses a policy wins back.

/// `(f1 - reuse) / (full - reuse)`: 0 is plain reuse, 1 is full prefill (FusionRAG, arXiv
/// 2601.12904). May leave `0..=1` on either side.
///
/// `None` where reuse loses nothing, so that there is nothing to win back: below zero the quotient
/// would turn round and call the worse policy the better one.
pub fn normalised_f1(f1: f64, reuse: f64, full: f64) -> Option<f64> {
    let loss = full - reuse;
    (loss > 0.0).then(|| (f1 - reuse) / loss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reuse_is_zero_and_full_prefill_is_one() {
        // Reuse 0.25 and full 0.75 are 0.5 apart; 0.5 has won back half of it.
        assert_eq!(normalised_f1(0.25, 0.25, 0.75), Some(0.0));
        assert_eq!(normalised_f1(0.5, 0.25, 0.75), Some(0.5));
        assert_eq!(normalised_f1(0.75, 0.25, 0.75), Some(1.0));
        assert_eq!(normalised_f1(1.0, 0.25, 0.75), Some(1.5));
        assert_eq!(normalised_f1(0.0, 0.25, 0.75), Some(-0.5));
    }

    #[test]
    fn without_a_loss_there_is_no_value() {
        assert_eq!(normalised_f1(0.5, 0.5, 0.5), None);
        assert_eq!(normalised_f1(0.4, 0.5, 0.4), None);
        assert_eq!(normalised_f1(0.0, 0.0, 0.0), None);
        assert_eq!(normalised_f1(0.5, f64::NAN, 0.5), None);
    }
}
