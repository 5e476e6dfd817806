//! The machine's limits, measured in the same run: the rate of one large matrix product, and of reading memory.

use std::time::Instant;

use burn::tensor::{Distribution, Tensor};
use burn_flex::{Flex, FlexDevice};

/// Side of the square product.
const GEMM_SIZE: usize = 2048;
/// Bytes read: larger than any cache.
const READ_BYTES: usize = 256 << 20;
const REPEATS: usize = 5;

/// The best of a few runs, in seconds: the machine's speed when nothing else uses it.
pub fn best(mut work: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..REPEATS).map(time).fold(f64::INFINITY, f64::min)
}

/// Floating-point operations per second of Burn's own f32 product of 2048 x 2048 matrices.
pub fn gemm_rate() -> f64 {
    let matrix = || {
        let shape = [GEMM_SIZE, GEMM_SIZE];
        Tensor::<Flex, 2>::random(shape, Distribution::Default, &FlexDevice)
    };
    let (a, b) = (matrix(), matrix());
    let seconds = best(|| {
        std::hint::black_box(a.clone().matmul(b.clone()));
    });
    2.0 * (GEMM_SIZE as f64).powi(3) / seconds
}

/// Bytes read per second, all threads summing one large array.
pub fn read_rate() -> f64 {
    use rayon::prelude::*;
    let values = vec![1u64; READ_BYTES / 8];
    let seconds = best(|| {
        let sum = |part: &[u64]| part.iter().fold(0u64, |sum, x| sum.wrapping_add(*x));
        let sum: u64 = values.par_chunks(1 << 16).map(sum).sum();
        std::hint::black_box(sum);
    });
    READ_BYTES as f64 / seconds
}
