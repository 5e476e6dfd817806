//! Seeded random draws. They never change, so that a seed means the same
//! questions, orders and arrivals on every machine and for good.

use rand::distr::OpenClosed01;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use rand_xoshiro::SplitMix64;

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// Uniform in `[0, 1)`, with 53 random bits.
    fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// Whether something of probability `p` happens.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Uniform below `n`, which must not be 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        // The high half of the product is below n; the bias is at most n / 2^64.
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Uniform from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// One of `items`, which must not be empty.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// An index, drawn with a probability proportional to its weight.
    pub(crate) fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave a rest after the last weight.
        drawn.unwrap_or(weights.len() - 1)
    }

    /// `n` different ones of `items`, or all where there are fewer, in random order.
    pub(crate) fn sample<T>(&mut self, mut items: Vec<T>, n: usize) -> Vec<T> {
        self.draw_to_front(&mut items, n);
        items.truncate(n);
        items
    }

    pub(crate) fn shuffled<T: Copy>(&mut self, items: &[T]) -> Vec<T> {
        self.sample(items.to_vec(), items.len())
    }

    /// The gap to the next arrival of a Poisson process of one arrival per unit of time: minus the
    /// logarithm of a uniform number in `(0, 1]`, thus finite and not negative.
    pub(crate) fn exponential(&mut self) -> f64 {
        -self.0.sample::<f64, _>(OpenClosed01).ln()
    }

    /// Moves `n` random items to the front, in random order (Fisher and Yates).
    pub(crate) fn draw_to_front<T>(&mut self, items: &mut [T], n: usize) {
        for place in 0..n.min(items.len()) {
            let other = place + self.below(items.len() - place);
            items.swap(place, other);
        }
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        self.draw_to_front(items, items.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_of_the_published_generator() {
        let mut random = Random::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
        assert_eq!([random.0.next_u64(), random.0.next_u64()], expected);
    }

    #[test]
    fn gaps_are_exponential_with_mean_one() {
        let mut random = Random::new(1);
        let gaps: Vec<f64> = (0..20_000).map(|_| random.exponential()).collect();
        assert!(gaps.iter().all(|gap| gap.is_finite() && *gap >= 0.0));
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        // The mean of 20,000 has a standard deviation of 0.007.
        assert!((mean - 1.0).abs() < 0.035, "{mean}");
        // Of an exponential distribution 1 - 1/e lies below the mean.
        let below = gaps.iter().filter(|gap| **gap < 1.0).count() as f64 / gaps.len() as f64;
        assert!((below - 0.632).abs() < 0.02, "{below}");
    }

    #[test]
    fn a_shuffle_gives_every_order_as_often() {
        let mut random = Random::new(2);
        let mut counts = std::collections::HashMap::new();
        for _ in 0..12_000 {
            let mut items = [1, 2, 3];
            random.shuffle(&mut items);
            *counts.entry(items).or_insert(0_i32) += 1;
        }
        assert_eq!(counts.len(), 6);
        // 2,000 each with a standard deviation of 41; swapping with any place would be 222 off.
        assert!(
            counts.values().all(|count| (count - 2000).abs() < 150),
            "{counts:?}"
        );
    }

    #[test]
    fn drawing_more_than_there_are_keeps_every_item() {
        let mut items: Vec<usize> = (0..10).collect();
        Random::new(2).draw_to_front(&mut items, 99);
        items.sort_unstable();
        assert_eq!(items, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn draws_keep_to_their_ranges_and_reach_all_of_them() {
        let mut random = Random::new(1);
        let mut seen = [0; 3];
        for _ in 0..3000 {
            seen[random.between(5, 7) - 5] += 1;
        }
        assert!(seen.iter().all(|&n| (900..1100).contains(&n)), "{seen:?}");
    }

    #[test]
    fn weights_decide_how_often_an_index_is_drawn() {
        let mut random = Random::new(2);
        let mut seen = [0; 3];
        for _ in 0..4000 {
            seen[random.weighted(&[3.0, 0.0, 1.0])] += 1;
        }
        assert!((2900..3100).contains(&seen[0]) && seen[1] == 0, "{seen:?}");
    }

    #[test]
    fn a_sample_holds_different_items_and_every_order_occurs() {
        let mut random = Random::new(3);
        let mut orders = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let sample = random.sample(vec![1, 2, 3], 2);
            assert!(sample.len() == 2 && sample[0] != sample[1], "{sample:?}");
            orders.insert(sample);
        }
        assert_eq!(orders.len(), 6);
        assert_eq!(random.sample(vec![1], 5), [1]);
    }
}
