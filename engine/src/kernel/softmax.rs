//! Softmax over scores that come in runs, as attention needs it, and over one whole row at a time.
#![expect(unsafe_code, reason = "vectors over raw pointers")]

use std::ops::Range;

use super::simd::{Isa, Kernel, Lanes, exp};

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
    /// for sums under the old maximum. NaN stays NaN.
    ///
    /// # Safety
    /// The processor must have the instruction set; `scores` is a whole number of vectors long.
    #[inline(always)]
    pub(super) unsafe fn absorb<L: Lanes>(
        &mut self,
        scores: &mut [f32],
        seen: Range<usize>,
    ) -> f32 {
        let n = scores.len();
        scores[..seen.start].fill(f32::NEG_INFINITY);
        scores[seen.end..].fill(f32::NEG_INFINITY);
        // SAFETY: chunks of a vector's length; the caller guarantees the rest.
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

    /// Appends another part of the keys; returns the factors for the two parts' sums.
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
/// The processor must have the instruction set.
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

/// Softmax of one row. A score that is not finite turns the row into NaN, so that it is noticed.
pub(super) fn normalise(row: &mut Vec<f32>, isa: Isa) {
    let n = row.len();
    row.resize(n.next_multiple_of(isa.lanes()), f32::NEG_INFINITY);
    isa.run(Normalise(row, n));
    row.truncate(n);
}

/// A row in whole vectors, and how many of its scores count.
struct Normalise<'a>(&'a mut [f32], usize);

impl Kernel for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self(row, n) = self;
        let mut softmax = Running::EMPTY;
        // SAFETY: whole vectors; the caller guarantees the instruction set.
        unsafe {
            softmax.absorb::<L>(row, 0..n);
            scale_row::<L>(row, 1.0 / softmax.sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_becomes_its_softmax() {
        for isa in Isa::all() {
            for n in [1, 7, 16, 45] {
                let scores: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin() * 5.0).collect();
                let total: f32 = scores.iter().map(|x| x.exp()).sum();
                let mut row = scores.clone();
                normalise(&mut row, isa);
                assert_eq!(row.len(), n);
                for (weight, score) in row.iter().zip(&scores) {
                    let expected = score.exp() / total;
                    let error = (weight - expected).abs();
                    assert!(error < 1e-6, "{isa:?}, {n}: {weight}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn scores_that_are_not_finite_are_not_hidden() {
        for isa in Isa::all() {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut row = vec![1.0, bad, 2.0];
                normalise(&mut row, isa);
                assert!(row.iter().all(|x| x.is_nan()), "{isa:?}, {bad}: {row:?}");
            }
        }
    }
}
