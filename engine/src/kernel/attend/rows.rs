//! Attention of many rows: tiles of rows against tiles of keys, with the softmax carried along (FlashAttention,
//! arXiv 2205.14135), so that scores never leave the cache. No K or V is repeated for grouped heads, and a row's keys
//! are a range, not a mask.
#![expect(
    unsafe_code,
    reason = "register tiles over raw pointers; threads write disjoint rows"
)]

use std::ops::Range;

use rayon::prelude::*;

use super::super::simd::{Isa, Kernel, Lanes, Stored};
use super::super::tile::{PANEL_VECTORS, Product, widen};
use super::shape::{KEY_TILE, Running, Shape, Target, scale_row};

/// Rows of a task, counted over the query heads of a group.
const ROW_TILE: usize = 192;

/// K of all heads, transposed in panels: `[kv_heads][panels][head_dim][width]`, keys from `first` on.
pub(super) struct PackedKeys {
    data: Vec<f32>,
    first: usize,
    n_panels: usize,
}

impl PackedKeys {
    pub(super) fn new<E: Stored>(k: &[E], keys: Range<usize>, shape: Shape, isa: Isa) -> Self {
        let width = isa.lanes() * PANEL_VECTORS;
        // Tiles begin at multiples of their length wherever the first key is: rows group their keys alike in any prompt.
        let first = keys.start / KEY_TILE * KEY_TILE;
        let n_panels = (keys.end - first).next_multiple_of(KEY_TILE) / width;
        let panel = shape.head_dim * width;
        let mut data = vec![0.0; shape.kv_heads * n_panels * panel];
        let panels = data.par_chunks_exact_mut(panel).enumerate();
        panels.for_each(|(index, out)| {
            let mut wide = vec![0.0; shape.head_dim];
            let (head, panel) = (index / n_panels, index % n_panels);
            let key = first + panel * width;
            for (column, key) in (key..(key + width).min(keys.end)).enumerate() {
                let row = &k[key * shape.kv_width() + head * shape.head_dim..][..shape.head_dim];
                isa.run(Widen(row, &mut wide));
                let places = out.iter_mut().skip(column).step_by(width);
                places.zip(&wide).for_each(|(place, &value)| *place = value);
            }
        });
        Self {
            data,
            first,
            n_panels,
        }
    }
}

struct Widen<'a, E>(&'a [E], &'a mut [f32]);

impl<E: Stored> Kernel for Widen<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the instruction set is the caller's.
        unsafe { widen::<L, E>(self.0, self.1) }
    }
}

/// Attention of rows over the keys each one sees.
pub(super) struct Rows<'a, E> {
    pub(super) q: &'a [f32], // [m, heads, head_dim]
    pub(super) keys: &'a PackedKeys,
    pub(super) v: &'a [E], // [n, kv_heads, head_dim]
    pub(super) visible: &'a [Range<usize>],
    pub(super) shape: Shape,
    pub(super) isa: Isa,
}

impl<E: Stored> Rows<'_, E> {
    /// Writes `[m, heads * head_dim]`.
    pub(super) fn run(&self, out: Target) {
        let m = self.visible.len();
        let threads = rayon::current_num_threads();
        let rows = ROW_TILE / self.shape.group();
        let rows = rows
            .min((m * self.shape.kv_heads).div_ceil(2 * threads))
            .max(1);
        let tiles = (0..m.div_ceil(rows)).map(|tile| tile * rows..((tile + 1) * rows).min(m));
        // The last rows see most keys: begun first, they do not finish alone.
        let tasks: Vec<_> = tiles
            .rev()
            .flat_map(|rows| (0..self.shape.kv_heads).map(move |head| (rows.clone(), head)))
            .collect();
        tasks.par_iter().for_each(|(rows, head)| {
            let (all, rows, head) = (self, rows.clone(), *head);
            self.isa.run(Task {
                all,
                rows,
                head,
                out,
            });
        });
    }
}

/// Some rows of the query heads that share one KV head.
struct Task<'a, E> {
    all: &'a Rows<'a, E>,
    rows: Range<usize>,
    head: usize,
    out: Target,
}

/// What a task works in. A line is one row of one query head; lines of a row lie side by side.
struct Scratch {
    q: Vec<f32>,      // [lines][head_dim], scaled
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
        let mut scratch = self.scratch(L::N * PANEL_VECTORS);
        let visible = &self.all.visible[self.rows.clone()];
        let first = visible.first().map_or(0, |range| range.start) / KEY_TILE * KEY_TILE;
        let last = visible.last().map_or(0, |range| range.end);
        for tile in (first..last).step_by(KEY_TILE) {
            // Rows that see none of these keys are left out: both ends of the ranges ascend.
            let from = visible.partition_point(|range| range.end <= tile);
            let to = visible.partition_point(|range| range.start < tile + KEY_TILE);
            if from < to {
                // SAFETY: the instruction set is the caller's.
                unsafe { self.key_tile::<L>(&mut scratch, tile, from..to) }
            }
        }
        self.write(&scratch);
    }
}

impl<E: Stored> Task<'_, E> {
    fn scratch(&self, width: usize) -> Scratch {
        let shape = self.all.shape;
        let (group, dim) = (shape.group(), shape.head_dim);
        let lines = self.rows.len() * group;
        let padded = dim.next_multiple_of(width);
        let mut q = Vec::with_capacity(lines * dim);
        for row in self.rows.clone() {
            let of_group = row * shape.q_width() + self.head * group * dim;
            let values = &self.all.q[of_group..of_group + group * dim];
            q.extend(values.iter().map(|x| x * shape.scale()));
        }
        Scratch {
            q,
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
        let group = self.all.shape.group();
        let lines = rows.start * group..rows.end * group;
        // SAFETY: `scratch` has room for all lines and one tile of keys.
        unsafe {
            self.scores::<L>(scratch, tile, lines.clone());
            for line in lines.clone() {
                let visible = &self.all.visible[self.rows.start + line / group];
                let seen =
                    visible.start.saturating_sub(tile)..visible.end.min(tile + KEY_TILE) - tile;
                let scores = &mut scratch.scores[line * KEY_TILE..][..KEY_TILE];
                let factor = scratch.softmax[line].absorb::<L>(scores, seen);
                if factor != 1.0 {
                    let out = &mut scratch.out[line * scratch.padded..][..scratch.padded];
                    scale_row::<L>(out, factor);
                }
            }
            self.load_v::<L>(&mut scratch.v, scratch.padded, tile);
            for panel in (0..scratch.padded).step_by(L::N * PANEL_VECTORS) {
                let product = Product {
                    m: lines.len(),
                    k: KEY_TILE,
                    a: scratch.scores.as_ptr().add(lines.start * KEY_TILE),
                    a_stride: KEY_TILE,
                    b: scratch.v.as_ptr().add(panel),
                    b_stride: scratch.padded,
                    c: scratch
                        .out
                        .as_mut_ptr()
                        .add(lines.start * scratch.padded + panel),
                    c_stride: scratch.padded,
                    accumulate: true,
                };
                product.run::<L>();
            }
        }
    }

    /// Scores of some lines with the keys from `tile` on.
    #[inline(always)]
    unsafe fn scores<L: Lanes>(&self, scratch: &mut Scratch, tile: usize, lines: Range<usize>) {
        let (keys, dim) = (self.all.keys, self.all.shape.head_dim);
        let width = L::N * PANEL_VECTORS;
        let first_panel = self.head * keys.n_panels + (tile - keys.first) / width;
        for panel in 0..KEY_TILE / width {
            // SAFETY: `keys` holds whole tiles; `scratch` has room for all lines.
            unsafe {
                let product = Product {
                    m: lines.len(),
                    k: dim,
                    a: scratch.q.as_ptr().add(lines.start * dim),
                    a_stride: dim,
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

    /// V of the keys from `tile` on, zeros behind the last one.
    #[inline(always)]
    unsafe fn load_v<L: Lanes>(&self, to: &mut [f32], padded: usize, tile: usize) {
        let shape = self.all.shape;
        let n = self.all.v.len() / shape.kv_width();
        for (key, to) in (tile..tile + KEY_TILE).zip(to.chunks_exact_mut(padded)) {
            let to = &mut to[..shape.head_dim];
            if key < n {
                let from = &self.all.v[key * shape.kv_width() + self.head * shape.head_dim..];
                // SAFETY: the instruction set is the caller's.
                unsafe { widen::<L, E>(&from[..shape.head_dim], to) }
            } else {
                to.fill(0.0);
            }
        }
    }

    fn write(&self, scratch: &Scratch) {
        let shape = self.all.shape;
        let (group, dim) = (shape.group(), shape.head_dim);
        let lines = scratch
            .out
            .chunks_exact(scratch.padded)
            .zip(&scratch.softmax);
        for (line, (values, softmax)) in lines.enumerate() {
            let (row, head) = (
                self.rows.start + line / group,
                self.head * group + line % group,
            );
            // SAFETY: the rows and heads of this task are its own.
            let to = unsafe {
                let start = self.out.0.add(row * shape.q_width() + head * dim);
                std::slice::from_raw_parts_mut(start, dim)
            };
            let scale = 1.0 / softmax.sum;
            to.iter_mut()
                .zip(values)
                .for_each(|(to, value)| *to = value * scale);
        }
    }
}
