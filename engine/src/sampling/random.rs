//! The random numbers of sampling and of the policy `random`: SplitMix64, so that a seed gives
//! the same numbers on every machine.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random(SplitMix64);

impl Random {
    /// The stream of `seed`, or a new one each time if there is none.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        // The standard library keys its hashers randomly for each process and differently for
        // each of them.
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// Uniform in `[0, 1)`, with 53 random bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_stream_is_splitmix64() {
        // First outputs for seed 1234567, from the algorithm's public reference values.
        let mut random = Random::new(Some(1_234_567));
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        for value in expected {
            assert_eq!(random.next(), value);
        }
    }

    #[test]
    fn without_a_seed_streams_differ() {
        assert_ne!(Random::new(None).next(), Random::new(None).next());
    }
}
