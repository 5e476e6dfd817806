//! Attention of many rows: tiles of rows against tiles of keys, with the softmax carried along (FlashAttention,
//! arXiv 2205.14135), so that scores never leave the cache. No K or V is repeated for grouped heads, and a row's keys
//! are a range, not a mask.
#![expect(
    unsafe_code,
    reason = "register tiles over raw pointers; threads write disjoint rows"
)]

use std::ops::Range;

use rayon::prelude::*;

use super::super::simd::{Kernel, Lanes, Stored};
use super::super::softmax::{Running, scale_row};
use super::super::tile::{
    Interleaved, PANEL_VECTORS, Product, Strided, pack_rows, packed_len, widen,
};
use super::shape::{Input, KEY_TILE, Target, add_weighted};

/// Rows of a task, counted over the query heads of a group.
const ROW_TILE: usize = 192;

/// K of all heads, transposed in panels: `[kv_heads][panels][head_dim][width]`, keys from `first` on.
struct PackedKeys {
    data: Vec<f32>,
    first: usize,
    n_panels: usize,
}

impl PackedKeys {
    fn new<E: Stored>(input: &Input<'_, E>) -> Self {
        let (shape, isa) = (input.shape, input.isa);
        let keys = input.keys(0..input.visible.len());
        let width = isa.lanes() * PANEL_VECTORS;
        let n_panels = keys.len().next_multiple_of(KEY_TILE) / width;
        let panel = shape.head_dim * width;
        let mut data = vec![0.0; shape.kv_heads * n_panels * panel];
        let panels = data.par_chunks_exact_mut(panel).enumerate();
        panels.for_each(|(index, out)| {
            let mut wide = vec![0.0; shape.head_dim];
            let (kv_head, panel) = (index / n_panels, index % n_panels);
            let key = keys.start + panel * width;
            for (column, key) in (key..(key + width).min(keys.end)).enumerate() {
                isa.run(Widen(input.key(key, kv_head), &mut wide));
                let places = out.iter_mut().skip(column).step_by(width);
                places.zip(&wide).for_each(|(place, &value)| *place = value);
            }
        });
        Self {
            data,
            first: keys.start,
            n_panels,
        }
    }
}

struct Widen<'a, E>(&'a [E], &'a mut [f32]);

impl<E: Stored> Kernel for Widen<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller guarantees the instruction set.
        unsafe { widen::<L, E>(self.0, self.1) }
    }
}

/// Writes `[m, heads * head_dim]`.
pub(super) fn run<E: Stored>(input: &Input<'_, E>, out: Target) {
    let (m, shape) = (input.visible.len(), input.shape);
    let keys = &PackedKeys::new(input);
    let rows = (ROW_TILE / shape.group())
        .min((m * shape.kv_heads).div_ceil(2 * rayon::current_num_threads()))
        .max(1);
    let tiles = (0..m.div_ceil(rows)).map(|tile| tile * rows..((tile + 1) * rows).min(m));
    // The last rows see most keys. They start first, so that they do not run alone at the end.
    let tasks: Vec<_> = tiles
        .rev()
        .flat_map(|rows| (0..shape.kv_heads).map(move |kv_head| (rows.clone(), kv_head)))
        .collect();
    tasks.into_par_iter().for_each(|(rows, kv_head)| {
        input.isa.run(Task {
            input,
            keys,
            rows,
            kv_head,
            out,
        });
    });
}

/// Some rows of the query heads that share one KV head.
struct Task<'a, E> {
    input: &'a Input<'a, E>,
    keys: &'a PackedKeys,
    rows: Range<usize>,
    kv_head: usize,
    out: Target,
}

/// The buffers of a task. A line is one row of one query head; lines of a row lie side by side.
struct Scratch {
    q: Vec<f32>,        // [lines][head_dim], scaled
    packed_q: Vec<f32>, // the lines of one tile of keys, interleaved
    packed_lines: Range<usize>,
    scores: Vec<f32>, // [lines][KEY_TILE]
    v: Vec<f32>,      // [KEY_TILE][padded]
    out: Vec<f32>,    // [lines][padded]
    softmax: Vec<Running>,
    /// `head_dim` in whole panels.
    padded: usize,
}

impl<E: Stored> Kernel for Task<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let lines = self.rows.len() * self.input.shape.group();
        let packed = packed_len::<L>(lines, self.input.shape.head_dim);
        let mut scratch = self.scratch(L::N * PANEL_VECTORS, packed);
        let visible = &self.input.visible[self.rows.clone()];
        for tile in self.input.keys(self.rows.clone()).step_by(KEY_TILE) {
            // Rows that see none of these keys are left out: both ends of the ranges ascend.
            let from = visible.partition_point(|range| range.end <= tile);
            let to = visible.partition_point(|range| range.start < tile + KEY_TILE);
            if from < to {
                // SAFETY: the caller guarantees the instruction set.
                unsafe { self.key_tile::<L>(&mut scratch, tile, from..to) }
            }
        }
        self.write(&scratch);
    }
}

impl<E: Stored> Task<'_, E> {
    fn scratch(&self, width: usize, packed: usize) -> Scratch {
        let shape = self.input.shape;
        let lines = self.rows.len() * shape.group();
        let padded = shape.head_dim.next_multiple_of(width);
        Scratch {
            q: self.input.queries(self.rows.clone(), self.kv_head),
            packed_q: vec![0.0; packed],
            packed_lines: 0..0,
            scores: vec![0.0; lines * KEY_TILE],
            v: vec![0.0; KEY_TILE * padded],
            out: vec![0.0; lines * padded],
            softmax: vec![Running::EMPTY; lines],
            padded,
        }
    }

    /// Scores, softmax and weighted V of some rows and the keys from `tile` on.
    #[inline(always)]
    unsafe fn key_tile<L: Lanes>(&self, scratch: &mut Scratch, tile: usize, rows: Range<usize>) {
        let (group, padded) = (self.input.shape.group(), scratch.padded);
        let lines = rows.start * group..rows.end * group;
        // SAFETY: `scratch` has room for all lines and one tile of keys.
        unsafe {
            self.scores::<L>(scratch, tile, lines.clone());
            for line in lines.clone() {
                let visible = &self.input.visible[self.rows.start + line / group];
                let seen =
                    visible.start.saturating_sub(tile)..visible.end.min(tile + KEY_TILE) - tile;
                let scores = &mut scratch.scores[line * KEY_TILE..][..KEY_TILE];
                let factor = scratch.softmax[line].absorb::<L>(scores, seen);
                if factor != 1.0 {
                    scale_row::<L>(&mut scratch.out[line * padded..][..padded], factor);
                }
            }
            self.load_v::<L>(&mut scratch.v, padded, tile);
            let weights = &scratch.scores[lines.start * KEY_TILE..];
            let sums = &mut scratch.out[lines.start * padded..lines.end * padded];
            let weights = (weights, Strided::<KEY_TILE>);
            add_weighted::<L, f32>(weights, KEY_TILE, (&scratch.v, padded), sums, padded);
        }
    }

    /// Scores of some lines with the keys from `tile` on.
    #[inline(always)]
    unsafe fn scores<L: Lanes>(&self, scratch: &mut Scratch, tile: usize, lines: Range<usize>) {
        let (keys, dim) = (self.keys, self.input.shape.head_dim);
        let width = L::N * PANEL_VECTORS;
        // Tiles differ in their first line only at the borders of windows.
        if scratch.packed_lines != lines {
            let q = &scratch.q[lines.start * dim..];
            let packed = &mut scratch.packed_q[..packed_len::<L>(lines.len(), dim)];
            pack_rows::<L>(q, [lines.len(), dim], dim, packed);
            scratch.packed_lines = lines.clone();
        }
        let first_panel = self.kv_head * keys.n_panels + (tile - keys.first) / width;
        for panel in 0..KEY_TILE / width {
            // SAFETY: `keys` holds whole tiles; `scratch` has room for all lines.
            unsafe {
                let product = Product {
                    m: lines.len(),
                    k: dim,
                    a: scratch.packed_q.as_ptr(),
                    layout: Interleaved,
                    b: keys.data[(first_panel + panel) * dim * width..].as_ptr(),
                    b_stride: width,
                    c: scratch
                        .scores
                        .as_mut_ptr()
                        .add(lines.start * KEY_TILE + panel * width),
                    c_stride: KEY_TILE,
                    accumulate: false,
                };
                product.run::<L>();
            }
        }
    }

    /// V of the keys from `tile` on, zeros after the last one.
    #[inline(always)]
    unsafe fn load_v<L: Lanes>(&self, to: &mut [f32], padded: usize, tile: usize) {
        // After the last key the buffer may hold anything, even rows of an earlier sequence.
        let end = self.input.visible[self.rows.end - 1].end;
        let keys = tile..end.min(tile + KEY_TILE);
        to[keys.len() * padded..].fill(0.0);
        // SAFETY: the caller guarantees the instruction set.
        unsafe { self.input.widen_v::<L>(self.kv_head, keys, to, padded) }
    }

    fn write(&self, scratch: &Scratch) {
        let shape = self.input.shape;
        let group = shape.group();
        let lines = scratch.out.chunks_exact(scratch.padded);
        for (line, (values, softmax)) in lines.zip(&scratch.softmax).enumerate() {
            let row = self.rows.start + line / group;
            let head = self.kv_head * group + line % group;
            // SAFETY: the rows and heads of this task are its own.
            let to = unsafe { self.out.line(row, head, shape) };
            let scale = 1.0 / softmax.sum;
            to.iter_mut()
                .zip(values)
                .for_each(|(to, value)| *to = value * scale);
        }
    }
}
