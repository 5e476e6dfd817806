//! The register tile that every matrix product on the CPU is made of.
#![expect(
    unsafe_code,
    reason = "raw pointers with strides; `Product` says what they must hold"
)]

use super::simd::{Lanes, Stored};

/// Vectors across a panel.
pub(super) const PANEL_VECTORS: usize = 2;

/// `c = a b`, or `c += a b`: `m` rows through a panel as wide as [`PANEL_VECTORS`] vectors.
///
/// Each output is one chain of multiply-adds in ascending `k`, in tiles of any height.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub m: usize,
    pub k: usize,
    pub a: *const f32, // [m][k], rows `a_stride` apart
    pub a_stride: usize,
    pub b: *const f32, // [k][panel], rows `b_stride` apart
    pub b_stride: usize,
    pub c: *mut f32, // [m][panel], rows `c_stride` apart
    pub c_stride: usize,
    pub accumulate: bool,
}

impl Product {
    /// # Safety
    /// The pointers hold what their shapes say; the processor has the instruction set.
    #[inline(always)]
    pub(super) unsafe fn run<L: Lanes>(mut self) {
        // SAFETY: the caller's; each step leaves the rows that are still to do.
        unsafe {
            while self.m >= L::TILE_ROWS {
                match L::TILE_ROWS {
                    12 => self.tile::<L, 12>(),
                    6 => self.tile::<L, 6>(),
                    _ => self.tile::<L, 4>(),
                }
            }
            if self.m >= 8 {
                self.tile::<L, 8>();
            }
            if self.m >= 4 {
                self.tile::<L, 4>();
            }
            if self.m >= 2 {
                self.tile::<L, 2>();
            }
            if self.m == 1 {
                self.tile::<L, 1>();
            }
        }
    }

    /// The first `M` rows; afterwards they are no longer part of the product.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const M: usize>(&mut self) {
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [[L::splat(0.0); PANEL_VECTORS]; M];
            if self.accumulate {
                for (i, row) in sums.iter_mut().enumerate() {
                    for (j, sum) in row.iter_mut().enumerate() {
                        *sum = L::load(self.c.add(i * self.c_stride + j * L::N));
                    }
                }
            }
            // Three rows share a pointer: twelve pointers would not fit into the registers.
            let mut groups: [*const f32; M] =
                std::array::from_fn(|g| self.a.wrapping_add(3 * g * self.a_stride));
            let (one, two) = (self.a_stride, 2 * self.a_stride);
            let mut b = self.b;
            for _ in 0..self.k {
                let panel: [L::V; PANEL_VECTORS] =
                    std::array::from_fn(|j| L::load(b.add(j * L::N)));
                for (i, row) in sums.iter_mut().enumerate() {
                    let group = groups[i / 3];
                    let a = L::splat(match i % 3 {
                        0 => *group,
                        1 => *group.add(one),
                        _ => *group.add(two),
                    });
                    for (sum, &b) in row.iter_mut().zip(&panel) {
                        *sum = L::fma(a, b, *sum);
                    }
                }
                for group in groups.iter_mut().take(M.div_ceil(3)) {
                    *group = group.wrapping_add(1);
                }
                b = b.wrapping_add(self.b_stride);
            }
            for (i, row) in sums.iter().enumerate() {
                for (j, &sum) in row.iter().enumerate() {
                    L::store(self.c.add(i * self.c_stride + j * L::N), sum);
                }
            }
            self.m -= M;
            self.a = self.a.add(M * self.a_stride);
            self.c = self.c.add(M * self.c_stride);
        }
    }
}

/// Widens `from` into the front of `to`, which is as long.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
pub(super) unsafe fn widen<L: Lanes, E: Stored>(from: &[E], to: &mut [f32]) {
    let to = &mut to[..from.len()];
    let whole = from.len() / L::N * L::N;
    for (from, to) in from.chunks_exact(L::N).zip(to.chunks_exact_mut(L::N)) {
        // SAFETY: chunks of a vector's length.
        unsafe { L::store(to.as_mut_ptr(), E::load::<L>(from.as_ptr())) }
    }
    for (from, to) in from[whole..].iter().zip(&mut to[whole..]) {
        *to = from.widen();
    }
}
