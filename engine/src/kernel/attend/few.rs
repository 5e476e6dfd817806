//! Attention of a row or two, as in decoding: K is read once, as it lies; threads share out the keys and their
//! results are joined.
#![expect(unsafe_code, reason = "register tiles over raw pointers")]

use std::ops::Range;

use rayon::prelude::*;

use super::super::simd::{Isa, Kernel, Lanes, Stored};
use super::super::tile::{PANEL_VECTORS, Product, widen};
use super::shape::{KEY_TILE, Running, Shape, Target, scale_row};

/// Keys below which another thread is not worth waking.
const MIN_KEYS: usize = 4 * KEY_TILE;

/// Attention of few rows over the keys each one sees.
pub(super) struct Few<'a, E> {
    pub(super) q: &'a [f32], // [m, heads, head_dim]
    pub(super) k: &'a [E],   // [n, kv_heads, head_dim]
    pub(super) v: &'a [E],
    pub(super) visible: &'a [Range<usize>],
    pub(super) shape: Shape,
    pub(super) isa: Isa,
}

/// One KV head's lines over some of the keys.
struct Part {
    head: usize,
    softmax: Vec<Running>,
    out: Vec<f32>, // [lines][padded]
}

impl<E: Stored> Few<'_, E> {
    /// Lines (rows times query heads of a group) that this way of attending is for: one vector holds them all.
    pub(super) fn takes(m: usize, shape: Shape, isa: Isa) -> bool {
        m * shape.group() <= isa.lanes()
    }

    /// Writes `[m, heads * head_dim]`.
    pub(super) fn run(&self, out: Target) {
        let first = self.visible.first().map_or(0, |range| range.start) / KEY_TILE * KEY_TILE;
        let last = self.visible.last().map_or(0, |range| range.end);
        let splits = (last - first)
            .div_ceil(MIN_KEYS)
            .min(rayon::current_num_threads());
        let span = (last - first)
            .div_ceil(splits.max(1))
            .next_multiple_of(KEY_TILE);
        let spans: Vec<Range<usize>> = (first..last)
            .step_by(span.max(1))
            .map(|start| start..(start + span).min(last))
            .collect();
        let work = |index: usize| {
            let (head, keys) = (index / spans.len(), spans[index % spans.len()].clone());
            self.isa.run(Task {
                all: self,
                head,
                keys,
            })
        };
        let n = self.shape.kv_heads * spans.len();
        let parts: Vec<Part> = match spans.len() {
            0 | 1 => (0..n).map(work).collect(),
            _ => (0..n).into_par_iter().map(work).collect(),
        };
        for parts in parts.chunks(spans.len().max(1)) {
            self.write(parts, out);
        }
    }

    /// Joins the parts of one KV head.
    fn write(&self, parts: &[Part], out: Target) {
        let (group, dim) = (self.shape.group(), self.shape.head_dim);
        for line in 0..self.visible.len() * group {
            let mut softmax = Running::EMPTY;
            let mut sums = vec![0.0; dim];
            for part in parts {
                let (own, others) = softmax.join(part.softmax[line]);
                let padded = part.out.len() / part.softmax.len();
                let values = &part.out[line * padded..][..dim];
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = *sum * own + value * others;
                }
            }
            let head = parts.first().map_or(0, |part| part.head) * group + line % group;
            // SAFETY: inside the output, which nobody else writes now.
            let to = unsafe {
                let start = out.0.add(line / group * self.shape.q_width() + head * dim);
                std::slice::from_raw_parts_mut(start, dim)
            };
            to.iter_mut()
                .zip(sums)
                .for_each(|(to, sum)| *to = sum / softmax.sum);
        }
    }
}

struct Task<'a, E> {
    all: &'a Few<'a, E>,
    head: usize,
    keys: Range<usize>,
}

impl<E: Stored> Kernel for Task<'_, E> {
    type Output = Part;

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> Part {
        let shape = self.all.shape;
        let (group, dim) = (shape.group(), shape.head_dim);
        let lines = self.all.visible.len() * group;
        let padded = dim.next_multiple_of(L::N * PANEL_VECTORS);
        let queries = self.queries(L::N * PANEL_VECTORS);
        let mut part = Part {
            head: self.head,
            softmax: vec![Running::EMPTY; lines],
            out: vec![0.0; lines * padded],
        };
        let mut tile_k = vec![0.0; KEY_TILE * dim];
        let mut tile_v = vec![0.0; KEY_TILE * padded];
        let mut by_key = vec![0.0; KEY_TILE * L::N * PANEL_VECTORS];
        let mut scores = vec![0.0; lines * KEY_TILE];
        for tile in self.keys.clone().step_by(KEY_TILE) {
            let keys = tile..(tile + KEY_TILE).min(self.keys.end);
            // SAFETY: the buffers hold one tile of keys; the instruction set is the caller's.
            unsafe {
                self.widen::<L>(self.all.k, keys.clone(), &mut tile_k, dim);
                self.widen::<L>(self.all.v, keys.clone(), &mut tile_v, padded);
                // Keys in the place of rows: K is read row by row, and a vector holds all lines.
                let product = Product {
                    m: keys.len(),
                    k: dim,
                    a: tile_k.as_ptr(),
                    a_stride: dim,
                    b: queries.as_ptr(),
                    b_stride: L::N * PANEL_VECTORS,
                    c: by_key.as_mut_ptr(),
                    c_stride: L::N * PANEL_VECTORS,
                    accumulate: false,
                };
                product.run::<L>();
                for line in 0..lines {
                    let scores = &mut scores[line * KEY_TILE..][..KEY_TILE];
                    let of_line = by_key.iter().skip(line).step_by(L::N * PANEL_VECTORS);
                    scores
                        .iter_mut()
                        .zip(of_line)
                        .for_each(|(to, from)| *to = *from);
                    let visible = &self.all.visible[line / group];
                    let start = visible.start.clamp(tile, keys.end) - tile;
                    let end = visible.end.clamp(tile, keys.end) - tile;
                    if start == end {
                        scores.fill(0.0);
                        continue;
                    }
                    let factor = part.softmax[line].absorb::<L>(scores, start..end);
                    scale_row::<L>(&mut part.out[line * padded..][..padded], factor);
                }
                for panel in (0..padded).step_by(L::N * PANEL_VECTORS) {
                    let product = Product {
                        m: lines,
                        k: keys.len(),
                        a: scores.as_ptr(),
                        a_stride: KEY_TILE,
                        b: tile_v.as_ptr().add(panel),
                        b_stride: padded,
                        c: part.out.as_mut_ptr().add(panel),
                        c_stride: padded,
                        accumulate: true,
                    };
                    product.run::<L>();
                }
            }
        }
        part
    }
}

impl<E: Stored> Task<'_, E> {
    /// The lines as columns, scaled: `[head_dim][width]`.
    fn queries(&self, width: usize) -> Vec<f32> {
        let shape = self.all.shape;
        let (group, dim) = (shape.group(), shape.head_dim);
        let mut columns = vec![0.0; dim * width];
        for row in 0..self.all.visible.len() {
            for member in 0..group {
                let head = self.head * group + member;
                let q = &self.all.q[row * shape.q_width() + head * dim..][..dim];
                let places = columns.iter_mut().skip(row * group + member).step_by(width);
                places
                    .zip(q)
                    .for_each(|(place, &q)| *place = q * shape.scale());
            }
        }
        columns
    }

    /// This head's part of some tokens, rows `stride` apart.
    #[inline(always)]
    unsafe fn widen<L: Lanes>(
        &self,
        from: &[E],
        keys: Range<usize>,
        to: &mut [f32],
        stride: usize,
    ) {
        let shape = self.all.shape;
        for (key, to) in keys.zip(to.chunks_exact_mut(stride)) {
            let from = &from[key * shape.kv_width() + self.head * shape.head_dim..];
            // SAFETY: the instruction set is the caller's.
            unsafe { widen::<L, E>(&from[..shape.head_dim], to) }
        }
    }
}
