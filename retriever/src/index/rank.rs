//! The best few of many scores.

use std::cmp::Ordering;

/// The `top_k` rows with the highest scores, best first, ties by chunk id. Takes no memory beyond
/// what it is given, whatever `top_k` is.
pub(super) fn best_first<'i>(
    mut scores: Vec<(u32, f32)>,
    top_k: usize,
    chunk_id: impl Fn(u32) -> &'i str,
) -> Vec<(u32, f32)> {
    let order = |a: &(u32, f32), b: &(u32, f32)| -> Ordering {
        b.1.total_cmp(&a.1)
            .then_with(|| chunk_id(a.0).cmp(chunk_id(b.0)))
    };
    if top_k < scores.len() {
        scores.select_nth_unstable_by(top_k, order);
        scores.truncate(top_k);
    }
    scores.sort_unstable_by(order);
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_id_and_any_top_k_will_do() {
        let ids = ["c", "b", "a", "d"];
        let scores = vec![(0, 1.0), (1, 2.0), (2, 1.0), (3, -1.0)];
        let best = |top_k| best_first(scores.clone(), top_k, |row| ids[row as usize]);
        assert_eq!(best(0), []);
        assert_eq!(best(2), [(1, 2.0), (2, 1.0)]);
        assert_eq!(best(usize::MAX), [(1, 2.0), (2, 1.0), (0, 1.0), (3, -1.0)]);
    }
}
