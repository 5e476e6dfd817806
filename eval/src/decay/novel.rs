//! Sets of chunks of which no two are the same. Pure.

use std::collections::HashSet;

use crate::random::Random;

/// `n_sets` different sets of `size` of `n_chunks` chunks, each in random order; `None` if
/// there are fewer such sets. The same seed draws the same sets.
pub(super) fn novel_sets(
    n_chunks: usize,
    size: usize,
    n_sets: usize,
    seed: u64,
) -> Option<Vec<Vec<usize>>> {
    if n_combinations(n_chunks, size) < n_sets as u128 {
        return None;
    }
    let mut random = Random::new(seed);
    let mut pool: Vec<usize> = (0..n_chunks).collect();
    let (mut seen, mut sets) = (HashSet::new(), Vec::with_capacity(n_sets));
    while sets.len() < n_sets {
        random.draw_to_front(&mut pool, size);
        let drawn = pool[..size].to_vec();
        if seen.insert(sorted(&drawn)) {
            sets.push(drawn);
        }
    }
    Some(sets)
}

/// The same list for every order of a set.
fn sorted(set: &[usize]) -> Vec<usize> {
    let mut set = set.to_vec();
    set.sort_unstable();
    set
}

/// `n` over `k`; more than `u128` holds is its maximum.
pub(super) fn n_combinations(n: usize, k: usize) -> u128 {
    if k > n {
        return 0;
    }
    let mut count: u128 = 1;
    for i in 0..k.min(n - k) {
        // Exact: the product of i + 1 consecutive numbers is a multiple of (i + 1)!.
        match count.checked_mul((n - i) as u128) {
            Some(product) => count = product / (i as u128 + 1),
            None => return u128::MAX,
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_differ_as_sets_and_not_only_in_order() {
        // All the sets there are: none twice, none left out.
        let sets = novel_sets(5, 2, 10, 3).unwrap();
        let different: HashSet<Vec<usize>> = sets.iter().map(|set| sorted(set)).collect();
        assert_eq!(different.len(), 10);
        for set in &sets {
            assert!(set.len() == 2 && set[0] != set[1] && set.iter().all(|&chunk| chunk < 5));
        }
        assert!(sets.iter().any(|set| set[0] > set[1]), "orders are random");
    }

    #[test]
    fn more_sets_than_there_are_cannot_be_drawn() {
        assert_eq!(novel_sets(5, 2, 11, 3), None);
        assert_eq!(novel_sets(3, 4, 1, 3), None);
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(novel_sets(40, 6, 9, 1), novel_sets(40, 6, 9, 1));
        assert_ne!(novel_sets(40, 6, 9, 1), novel_sets(40, 6, 9, 2));
    }

    #[test]
    fn combinations_are_counted() {
        assert_eq!(n_combinations(5, 2), 10);
        assert_eq!(n_combinations(49, 6), 13_983_816);
        assert_eq!(n_combinations(4, 4), 1);
        assert_eq!(n_combinations(4, 0), 1);
        assert_eq!(n_combinations(3, 4), 0);
        assert_eq!(n_combinations(100_000, 500), u128::MAX);
    }
}
