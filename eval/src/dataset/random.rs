//! The random numbers of generated datasets: SplitMix64 (Steele, Lea, Flood: "Fast splittable
//! pseudorandom number generators", 2014) and the few draws made from it. They are spelled out
//! here, and never change, so that a seed means the same questions on every machine and for good.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// The stream of `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`, with 53 random bits.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something of probability `p` happens.
    pub(super) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Uniform below `n`, which must not be 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        // The high half of the product is below n; the bias is at most n / 2^64.
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Uniform from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// One of `items`, which must not be empty.
    pub(super) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// An index, drawn with a probability proportional to its weight.
    pub(super) fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave a rest behind the last weight.
        drawn.unwrap_or(weights.len() - 1)
    }

    /// `n` different ones of `items`, or all where there are fewer, in random order.
    pub(super) fn sample<T>(&mut self, mut items: Vec<T>, n: usize) -> Vec<T> {
        let n = n.min(items.len());
        for taken in 0..n {
            let chosen = self.between(taken, items.len() - 1);
            items.swap(taken, chosen);
        }
        items.truncate(n);
        items
    }

    /// All `items` in random order.
    pub(super) fn shuffled<T: Copy>(&mut self, items: &[T]) -> Vec<T> {
        self.sample(items.to_vec(), items.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_splitmix64() {
        // First outputs for seed 1234567, from the algorithm's public reference values.
        let mut random = Random::new(1_234_567);
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
