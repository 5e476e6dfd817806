//! Vectors that a seed makes: what no text gives in a million.

use rand::Rng as _;
use rand::SeedableRng as _;
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::vectors::Vectors;

/// Vectors of one centre, on average.
const PER_CENTRE: usize = 100;
/// Length of the deviation from a centre, in lengths of the centre.
const SPREAD: f32 = 0.8;

/// `n` vectors, each around one of `n / 100` random centres.
pub(super) fn mixture(n: usize, dimension: usize, seed: u64) -> Vectors {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut number = || random.random::<f32>() * 2.0 - 1.0;
    let n_centres = n.div_ceil(PER_CENTRE);
    let centres: Vec<f32> = (0..n_centres * dimension).map(|_| number()).collect();
    let mut values = Vec::with_capacity(n * dimension);
    for _ in 0..n {
        let at = (((number() + 1.0) / 2.0) * n_centres as f32) as usize;
        let centre = &centres[at.min(n_centres - 1) * dimension..][..dimension];
        values.extend(centre.iter().map(|c| c + SPREAD * number()));
    }
    Vectors::new(dimension, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_vectors_and_another_makes_others() {
        let first = |seed| mixture(300, 4, seed).rows().next().map(<[f32]>::to_vec);
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
        assert_eq!(mixture(300, 4, 1).rows().len(), 300);
    }
}
