//! Attention of a row or two, as in decoding: K is read once, as it lies; threads share out the keys and their
//! results are joined (Flash-Decoding).
#![expect(unsafe_code, reason = "register tiles over raw pointers")]

use std::ops::Range;

use rayon::prelude::*;

use super::super::simd::{Isa, Kernel, Lanes, Stored};
use super::super::tile::{PANEL_VECTORS, Product, Strided, widen};
use super::shape::{KEY_TILE, Running, Shape, Target, scale_row};

/// Keys below which another thread is not worth waking.
const MIN_KEYS: usize = 8 * KEY_TILE;

/// Lines up to which this way of attending is faster than that of `rows`.
const MAX_LINES: usize = 16;

/// Attention of few rows over the keys each one sees.
pub(super) struct Few<'a, E> {
    pub(super) q: &'a [f32], // [m, heads, head_dim]
    pub(super) k: &'a [E],   // [n, kv_heads, head_dim]
    pub(super) v: &'a [E],
    pub(super) visible: &'a [Range<usize>],
    pub(super) shape: Shape,
    pub(super) isa: Isa,
}

/// All lines over some of the keys; those of one KV head lie side by side.
struct Part {
    softmax: Vec<Running>,
    out: Vec<f32>, // [kv_heads * lines][padded]
    padded: usize,
}

impl<E: Stored> Few<'_, E> {
    /// Whether there are few enough lines (rows times query heads of a group) to read keys one by one.
    pub(super) fn takes(m: usize, shape: Shape) -> bool {
        m * shape.group() <= MAX_LINES
    }

    /// Writes `[m, heads * head_dim]`.
    pub(super) fn run(&self, out: Target) {
        let first = self.visible.first().map_or(0, |range| range.start) / KEY_TILE * KEY_TILE;
        let last = self.visible.last().map_or(0, |range| range.end);
        let wanted = (last - first).div_ceil(MIN_KEYS);
        let splits = wanted.min(rayon::current_num_threads()).max(1);
        let span = (last - first).div_ceil(splits).next_multiple_of(KEY_TILE);
        let spans: Vec<Range<usize>> = (first..last)
            .step_by(span.max(KEY_TILE))
            .map(|start| start..(start + span).min(last))
            .collect();
        let work = |keys: &Range<usize>| {
            let (all, keys) = (self, keys.clone());
            self.isa.run(Task { all, keys })
        };
        let parts: Vec<Part> = match spans.as_slice() {
            [only] => vec![work(only)],
            spans => spans.par_iter().map(work).collect(),
        };
        self.write(&parts, out);
    }

    /// Joins the parts.
    fn write(&self, parts: &[Part], out: Target) {
        let (group, dim) = (self.shape.group(), self.shape.head_dim);
        let lines = self.visible.len() * group;
        for index in 0..self.shape.kv_heads * lines {
            let mut softmax = Running::EMPTY;
            let mut sums = vec![0.0; dim];
            for part in parts {
                let (own, others) = softmax.join(part.softmax[index]);
                let values = &part.out[index * part.padded..][..dim];
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = *sum * own + value * others;
                }
            }
            let (kv_head, line) = (index / lines, index % lines);
            let head = kv_head * group + line % group;
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
    keys: Range<usize>,
}

/// What a task works in.
struct Scratch {
    scores: Vec<f32>, // [lines][KEY_TILE]
    v: Vec<f32>,      // [KEY_TILE][padded]
}

impl<E: Stored> Kernel for Task<'_, E> {
    type Output = Part;

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> Part {
        let shape = self.all.shape;
        let lines = self.all.visible.len() * shape.group();
        let padded = shape.head_dim.next_multiple_of(L::N * PANEL_VECTORS);
        let mut part = Part {
            softmax: vec![Running::EMPTY; shape.kv_heads * lines],
            out: vec![0.0; shape.kv_heads * lines * padded],
            padded,
        };
        let mut scratch = Scratch {
            scores: vec![0.0; lines * KEY_TILE],
            v: vec![0.0; KEY_TILE * padded],
        };
        let queries: Vec<Vec<f32>> = (0..shape.kv_heads).map(|head| self.queries(head)).collect();
        for tile in self.keys.clone().step_by(KEY_TILE) {
            let keys = tile..(tile + KEY_TILE).min(self.keys.end);
            // Head by head, so that a tile of K and V comes from memory once.
            for (head, queries) in queries.iter().enumerate() {
                let softmax = &mut part.softmax[head * lines..][..lines];
                let out = &mut part.out[head * lines * padded..][..lines * padded];
                // SAFETY: the instruction set is the caller's.
                unsafe {
                    self.key_tile::<L>(&mut scratch, head, queries, keys.clone(), softmax, out)
                }
            }
        }
        part
    }
}

impl<E: Stored> Task<'_, E> {
    /// One head's lines over one tile of keys.
    #[inline(always)]
    unsafe fn key_tile<L: Lanes>(
        &self,
        scratch: &mut Scratch,
        head: usize,
        queries: &[f32],
        keys: Range<usize>,
        softmax: &mut [Running],
        out: &mut [f32],
    ) {
        let (lines, padded) = (softmax.len(), out.len() / softmax.len());
        // SAFETY: the buffers hold one tile of keys; the instruction set is the caller's.
        unsafe {
            self.widen_v::<L>(head, keys.clone(), &mut scratch.v, padded);
            self.scores::<L>(head, queries, keys.clone(), &mut scratch.scores);
            for (line, softmax) in softmax.iter_mut().enumerate() {
                let scores = &mut scratch.scores[line * KEY_TILE..][..KEY_TILE];
                let visible = &self.all.visible[line / self.all.shape.group()];
                let start = visible.start.clamp(keys.start, keys.end) - keys.start;
                let end = visible.end.clamp(keys.start, keys.end) - keys.start;
                if start == end {
                    scores.fill(0.0);
                    continue;
                }
                let factor = softmax.absorb::<L>(scores, start..end);
                scale_row::<L>(&mut out[line * padded..][..padded], factor);
            }
            for panel in (0..padded).step_by(L::N * PANEL_VECTORS) {
                let product = Product {
                    m: lines,
                    k: keys.len(),
                    a: scratch.scores.as_ptr(),
                    layout: Strided::<KEY_TILE>,
                    b: scratch.v.as_ptr().add(panel),
                    b_stride: padded,
                    c: out.as_mut_ptr().add(panel),
                    c_stride: padded,
                    accumulate: true,
                };
                product.run::<L>();
            }
        }
    }

    /// One head's lines, scaled: `[lines][head_dim]`.
    fn queries(&self, head: usize) -> Vec<f32> {
        let shape = self.all.shape;
        let width = shape.group() * shape.head_dim;
        let of_row = |row: usize| {
            let start = row * shape.q_width() + head * width;
            self.all.q[start..start + width]
                .iter()
                .map(|q| q * shape.scale())
        };
        (0..self.all.visible.len()).flat_map(of_row).collect()
    }

    /// Scores of all lines with some keys: each key is read once, as it lies.
    #[inline(always)]
    unsafe fn scores<L: Lanes>(
        &self,
        head: usize,
        queries: &[f32],
        keys: Range<usize>,
        scores: &mut [f32],
    ) {
        let shape = self.all.shape;
        let dim = shape.head_dim;
        let whole = dim / L::N * L::N;
        for (i, key) in keys.enumerate() {
            let k = &self.all.k[key * shape.kv_width() + head * dim..][..dim];
            for (line, q) in queries.chunks_exact(dim).enumerate() {
                // SAFETY: vectors inside the key and the query, which are as long.
                unsafe {
                    let mut sums = L::splat(0.0);
                    for (k, q) in k.chunks_exact(L::N).zip(q.chunks_exact(L::N)) {
                        sums = L::fma(E::load::<L>(k.as_ptr()), L::load(q.as_ptr()), sums);
                    }
                    let rest = k[whole..].iter().zip(&q[whole..]);
                    let rest: f32 = rest.map(|(k, q)| k.widen() * q).sum();
                    scores[line * KEY_TILE + i] = L::sum(sums) + rest;
                }
            }
        }
    }

    /// This head's V of some tokens, rows `padded` apart.
    #[inline(always)]
    unsafe fn widen_v<L: Lanes>(
        &self,
        head: usize,
        keys: Range<usize>,
        to: &mut [f32],
        padded: usize,
    ) {
        let shape = self.all.shape;
        for (key, to) in keys.zip(to.chunks_exact_mut(padded)) {
            let v = &self.all.v[key * shape.kv_width() + head * shape.head_dim..];
            // SAFETY: the instruction set is the caller's.
            unsafe { widen::<L, E>(&v[..shape.head_dim], to) }
        }
    }
}
