//! What the attention kernels of the CPU share: sizes, the softmax that is carried from one run of keys to the next,
//! and the output that threads write side by side.
#![expect(
    unsafe_code,
    reason = "threads write disjoint parts of one output; vectors over raw pointers"
)]

use std::ops::Range;

use super::super::simd::{Lanes, exp};

/// Keys worked on at a time: their scores, K and V stay in the L2 cache.
pub(super) const KEY_TILE: usize = 128;

/// Sizes of one attention.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
}

impl Shape {
    /// Query heads per KV head.
    pub(super) fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    /// Floats from one token's K or V to the next one's.
    pub(super) fn kv_width(self) -> usize {
        self.kv_heads * self.head_dim
    }

    pub(super) fn q_width(self) -> usize {
        self.heads * self.head_dim
    }

    pub(super) fn scale(self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

/// The output, `[m, heads * head_dim]`; each task writes rows and heads of its own.
#[derive(Clone, Copy)]
pub(super) struct Target(pub(super) *mut f32);

// SAFETY: tasks write disjoint parts.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// A softmax over the keys seen so far.
#[derive(Clone, Copy)]
pub(super) struct Running {
    pub(super) max: f32,
    pub(super) sum: f32,
}

impl Running {
    pub(super) const EMPTY: Self = Self {
        max: f32::NEG_INFINITY,
        sum: 0.0,
    };

    /// Turns the scores of one run of keys into weights under the new maximum, 0 outside `seen`; returns the factor
    /// for what was added up under the old one. NaN stays NaN.
    ///
    /// # Safety
    /// The processor has the instruction set; `scores` is a whole number of vectors long.
    #[inline(always)]
    pub(super) unsafe fn absorb<L: Lanes>(
        &mut self,
        scores: &mut [f32],
        seen: Range<usize>,
    ) -> f32 {
        let n = scores.len();
        scores[..seen.start].fill(f32::NEG_INFINITY);
        scores[seen.end..].fill(f32::NEG_INFINITY);
        // SAFETY: chunks of a vector's length; the rest is the caller's.
        unsafe {
            let mut highest = L::splat(self.max);
            for lanes in scores.chunks_exact(L::N) {
                highest = L::max(highest, L::load(lanes.as_ptr()));
            }
            let max = L::max_of(highest);
            let mut sums = L::splat(0.0);
            for lanes in scores.chunks_exact_mut(L::N) {
                let weights = exp::<L>(L::sub(L::load(lanes.as_ptr()), L::splat(max)));
                L::store(lanes.as_mut_ptr(), weights);
            }
            scores[..seen.start].fill(0.0);
            scores[seen.end..n].fill(0.0);
            for lanes in scores.chunks_exact(L::N) {
                sums = L::add(sums, L::load(lanes.as_ptr()));
            }
            let factor = if self.max == max {
                1.0
            } else {
                (self.max - max).exp()
            };
            self.sum = self.sum * factor + L::sum(sums);
            self.max = max;
            factor
        }
    }

    /// Puts another part of the keys behind this one; returns the factors for the two parts' sums.
    pub(super) fn join(&mut self, other: Self) -> (f32, f32) {
        let max = self.max.max(other.max);
        if max == f32::NEG_INFINITY {
            return (1.0, 1.0);
        }
        let (own, others) = ((self.max - max).exp(), (other.max - max).exp());
        self.sum = self.sum * own + other.sum * others;
        self.max = max;
        (own, others)
    }
}

/// Multiplies a row, a whole number of vectors long.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
pub(super) unsafe fn scale_row<L: Lanes>(row: &mut [f32], factor: f32) {
    for lanes in row.chunks_exact_mut(L::N) {
        // SAFETY: a chunk of a vector's length.
        unsafe {
            let scaled = L::mul(L::load(lanes.as_ptr()), L::splat(factor));
            L::store(lanes.as_mut_ptr(), scaled);
        }
    }
}
