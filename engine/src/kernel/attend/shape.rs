//! What the attention kernels of the CPU share: what they read, and the output that threads write side by side.
#![expect(
    unsafe_code,
    reason = "threads write disjoint parts of one output; kernels run on vectors"
)]

use std::ops::Range;

use super::super::simd::{Isa, Lanes, Stored};
use super::super::tile::{Layout, PANEL_VECTORS, Product, widen};

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

    /// Floats from one token's K or V to the next token's.
    pub(super) fn kv_width(self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Offset at which a token's K or V of a head begins.
    #[inline]
    fn kv_start(self, token: usize, kv_head: usize) -> usize {
        token * self.kv_width() + kv_head * self.head_dim
    }

    pub(super) fn q_width(self) -> usize {
        self.heads * self.head_dim
    }

    pub(super) fn scale(self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

/// One attention: rows of queries over a KV buffer.
pub(super) struct Input<'a, E> {
    pub(super) q: &'a [f32], // [m, heads, head_dim]
    pub(super) k: &'a [E],   // [n, kv_heads, head_dim]
    pub(super) v: &'a [E],
    /// The keys each row sees: starts and ends ascend.
    pub(super) visible: &'a [Range<usize>],
    pub(super) shape: Shape,
    pub(super) isa: Isa,
}

impl<E: Stored> Input<'_, E> {
    /// The keys any of these rows sees, in whole tiles at the front: tiles begin at multiples of their length
    /// wherever the first key is, so that rows group their keys the same way in any prompt.
    pub(super) fn keys(&self, rows: Range<usize>) -> Range<usize> {
        let visible = &self.visible[rows];
        let first = visible.first().map_or(0, |range| range.start);
        let last = visible.last().map_or(0, |range| range.end);
        first / KEY_TILE * KEY_TILE..last
    }

    /// Queries of one KV head's group, scaled: `[rows * group][head_dim]`.
    pub(super) fn queries(&self, rows: Range<usize>, kv_head: usize) -> Vec<f32> {
        let shape = self.shape;
        let width = shape.group() * shape.head_dim;
        let of_row = |row: usize| {
            let start = row * shape.q_width() + kv_head * width;
            self.q[start..start + width].iter()
        };
        rows.flat_map(of_row).map(|q| q * shape.scale()).collect()
    }

    /// K of one token and head.
    #[inline]
    pub(super) fn key(&self, key: usize, kv_head: usize) -> &[E] {
        &self.k[self.shape.kv_start(key, kv_head)..][..self.shape.head_dim]
    }

    /// This head's V from a token on, rows [`Shape::kv_width`] apart.
    #[inline]
    pub(super) fn values(&self, token: usize, kv_head: usize) -> &[E] {
        &self.v[self.shape.kv_start(token, kv_head)..]
    }

    /// This head's V of some tokens, rows `padded` apart.
    ///
    /// # Safety
    /// The processor must have the instruction set.
    #[inline(always)]
    pub(super) unsafe fn widen_v<L: Lanes>(
        &self,
        kv_head: usize,
        keys: Range<usize>,
        to: &mut [f32],
        padded: usize,
    ) {
        let dim = self.shape.head_dim;
        for (key, to) in keys.zip(to.chunks_exact_mut(padded)) {
            let v = &self.v[self.shape.kv_start(key, kv_head)..][..dim];
            // SAFETY: guaranteed by the caller.
            unsafe { widen::<L, E>(v, &mut to[..dim]) }
        }
    }
}

/// Adds weighted V to sums: `[lines][k] x [k][padded]` onto `[lines][padded]`, `lines` as many as `sums` holds.
///
/// # Safety
/// The processor must have the instruction set; `weights` holds `k` values per line in its layout, `v` `k` rows of
/// `padded` values, so far apart, and `padded` is a whole number of panels.
#[inline(always)]
pub(super) unsafe fn add_weighted<L: Lanes, E: Stored>(
    weights: (&[f32], impl Layout),
    k: usize,
    (v, v_stride): (&[E], usize),
    sums: &mut [f32],
    padded: usize,
) {
    for panel in (0..padded).step_by(L::N * PANEL_VECTORS) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let product = Product {
                m: sums.len() / padded,
                k,
                a: weights.0.as_ptr(),
                layout: weights.1,
                b: v.as_ptr().add(panel),
                b_stride: v_stride,
                c: sums.as_mut_ptr().add(panel),
                c_stride: padded,
                accumulate: true,
            };
            product.run::<L>();
        }
    }
}

/// The output, `[m, heads * head_dim]`; each task writes its own rows and heads.
#[derive(Clone, Copy)]
pub(super) struct Target(pub(super) *mut f32);

// SAFETY: tasks write disjoint parts.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// One row of one query head, `head_dim` long.
    ///
    /// # Safety
    /// The output must have that row and head, and no other thread may write to it at the same time.
    pub(super) unsafe fn line<'a>(self, row: usize, head: usize, shape: Shape) -> &'a mut [f32] {
        // SAFETY: inside the output, which outlives the tasks; the caller guarantees the rest.
        unsafe {
            let start = self.0.add(row * shape.q_width() + head * shape.head_dim);
            std::slice::from_raw_parts_mut(start, shape.head_dim)
        }
    }
}
