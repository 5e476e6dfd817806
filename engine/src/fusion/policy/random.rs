//! `random`: uniformly random candidate rows under the same budget, from a seed. The baseline.
//!
//! Cost: rows are known before layer 0. Needs nothing at ingest.

use super::Candidates;

/// A sorted sample without replacement of `k = ceil(ratio x candidates)` rows.
pub(super) fn rows(candidates: &Candidates, seed: u64) -> Vec<usize> {
    let mut rows = candidates.rows();
    let budget = candidates.budget();
    let mut state = seed;
    // A Fisher-Yates shuffle of the first `budget` places.
    for i in 0..budget {
        let rest = (rows.len() - i) as u64;
        rows.swap(i, i + (split_mix(&mut state) % rest) as usize);
    }
    rows.truncate(budget);
    rows.sort_unstable();
    rows
}

/// SplitMix64 (Steele et al. 2014): fixed here, so that a seed means the same rows forever.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
