//! The register tile that every matrix product on the CPU is made of.
#![expect(
    unsafe_code,
    reason = "raw pointers with strides; `Product` says what they must hold"
)]

use super::simd::{Lanes, Stored};

/// Vectors across a panel.
pub(super) const PANEL_VECTORS: usize = 2;
/// Steps of `k` between two jumps.
const UNROLL: usize = 4;

/// The layout of the rows of the left side.
pub(super) trait Layout: Copy {
    /// Floats from one row to the next inside a tile.
    fn row_stride<L: Lanes>(self) -> usize;
    /// Floats from one `k` to the next.
    fn k_stride<L: Lanes>(self) -> usize;
    /// Floats from a tile to the one `rows` further on.
    fn advance<L: Lanes>(self, rows: usize, k: usize) -> usize;
}

/// As [`pack_rows`] lays them: a tile's rows side by side, `[tiles][k][TILE_ROWS]`.
#[derive(Clone, Copy)]
pub(super) struct Interleaved;

impl Layout for Interleaved {
    #[inline(always)]
    fn row_stride<L: Lanes>(self) -> usize {
        1
    }

    #[inline(always)]
    fn k_stride<L: Lanes>(self) -> usize {
        L::TILE_ROWS
    }

    // Tiles lower than `TILE_ROWS` are the last ones and share one group of rows.
    #[inline(always)]
    fn advance<L: Lanes>(self, rows: usize, k: usize) -> usize {
        if rows == L::TILE_ROWS { rows * k } else { rows }
    }
}

/// One row after the other, `STRIDE` floats apart.
#[derive(Clone, Copy)]
pub(super) struct Strided<const STRIDE: usize>;

impl<const STRIDE: usize> Layout for Strided<STRIDE> {
    #[inline(always)]
    fn row_stride<L: Lanes>(self) -> usize {
        STRIDE
    }

    #[inline(always)]
    fn k_stride<L: Lanes>(self) -> usize {
        1
    }

    #[inline(always)]
    fn advance<L: Lanes>(self, rows: usize, _k: usize) -> usize {
        rows * STRIDE
    }
}

/// `c = a b`, or `c += a b`: `m` rows through a panel as wide as [`PANEL_VECTORS`] vectors.
///
/// Each output is one chain of multiply-adds in ascending `k`, in tiles of any height.
#[derive(Clone, Copy)]
pub(super) struct Product<A, B> {
    pub m: usize,
    pub k: usize,
    pub a: *const f32, // [m][k]
    pub layout: A,
    pub b: *const B, // [k][panel], rows `b_stride` apart
    pub b_stride: usize,
    pub c: *mut f32, // [m][panel], rows `c_stride` apart
    pub c_stride: usize,
    pub accumulate: bool,
}

impl<A: Layout, B: Stored> Product<A, B> {
    /// # Safety
    /// The pointers must be valid for their shapes, and the processor must have the instruction set.
    #[inline(always)]
    pub(super) unsafe fn run<L: Lanes>(mut self) {
        // SAFETY: guaranteed by the caller; each step leaves the rows that are still to do.
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

    /// Multiplies the first `M` rows and removes them from the product.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const M: usize>(&mut self) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let mut sums = [[L::splat(0.0); PANEL_VECTORS]; M];
            if self.accumulate {
                for (i, row) in sums.iter_mut().enumerate() {
                    for (j, sum) in row.iter_mut().enumerate() {
                        *sum = L::load(self.c.wrapping_add(i * self.c_stride + j * L::N));
                    }
                }
            }
            let (mut a, mut b) = (self.a, self.b);
            for _ in 0..self.k / UNROLL {
                for _ in 0..UNROLL {
                    (a, b) = self.step::<L, M>(&mut sums, a, b);
                }
            }
            for _ in 0..self.k % UNROLL {
                (a, b) = self.step::<L, M>(&mut sums, a, b);
            }
            for (i, row) in sums.iter().enumerate() {
                for (j, &sum) in row.iter().enumerate() {
                    L::store(self.c.wrapping_add(i * self.c_stride + j * L::N), sum);
                }
            }
            self.m -= M;
            self.a = self.a.wrapping_add(self.layout.advance::<L>(M, self.k));
            self.c = self.c.wrapping_add(M * self.c_stride);
        }
    }

    /// One step of `k`; returns the position of the next one.
    #[inline(always)]
    unsafe fn step<L: Lanes, const M: usize>(
        &self,
        sums: &mut [[L::V; PANEL_VECTORS]; M],
        a: *const f32,
        b: *const B,
    ) -> (*const f32, *const B) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let panel: [L::V; PANEL_VECTORS] =
                std::array::from_fn(|j| B::load::<L>(b.wrapping_add(j * L::N)));
            for (i, row) in sums.iter_mut().enumerate() {
                let a = L::splat(*a.wrapping_add(i * self.layout.row_stride::<L>()));
                for (sum, &b) in row.iter_mut().zip(&panel) {
                    *sum = L::fma(a, b, *sum);
                }
            }
        }
        let a = a.wrapping_add(self.layout.k_stride::<L>());
        (a, b.wrapping_add(self.b_stride))
    }
}

/// Floats that [`pack_rows`] writes.
pub(super) fn packed_len<L: Lanes>(m: usize, k: usize) -> usize {
    m.next_multiple_of(L::TILE_ROWS) * k
}

/// Lays rows `[m][k]`, `stride` floats apart, as [`Interleaved`]. Places in the last group that belong to no row keep
/// what `to` held.
pub(super) fn pack_rows<L: Lanes>(rows: &[f32], [m, k]: [usize; 2], stride: usize, to: &mut [f32]) {
    for (group, to) in to.chunks_exact_mut(L::TILE_ROWS * k).enumerate() {
        let first = group * L::TILE_ROWS;
        for i in 0..L::TILE_ROWS.min(m - first) {
            let row = &rows[(first + i) * stride..][..k];
            let places = to[i..].iter_mut().step_by(L::TILE_ROWS);
            places.zip(row).for_each(|(place, &value)| *place = value);
        }
    }
}

/// Widens `from` into the front of `to`, which is as long.
///
/// # Safety
/// The processor must have the instruction set.
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
