//! Attention of a row or two, as in decoding: K is read once, in its stored layout. Threads divide the keys among
//! themselves and their results are joined (Flash-Decoding).
#![expect(unsafe_code, reason = "register tiles over raw pointers")]

use std::ops::Range;

use rayon::prelude::*;

use super::super::simd::{Kernel, Lanes, Stored};
use super::super::softmax::{Running, scale_row};
use super::super::tile::{PANEL_VECTORS, Strided};
use super::shape::{Input, KEY_TILE, Shape, Target, add_weighted};

/// The fewest keys for which another thread is worth waking.
const MIN_KEYS: usize = 8 * KEY_TILE;

/// Lines that one vector of a key is multiplied with before the next vector is loaded.
const LINES: usize = 4;

/// Lines up to which this is faster than `rows`.
const MAX_LINES: usize = 16;

/// All lines over some of the keys; those of one KV head lie side by side.
struct Part {
    softmax: Vec<Running>,
    out: Vec<f32>, // [kv_heads * lines][padded]
    padded: usize,
}

/// Whether there are few enough lines (rows times query heads of a group) to read keys one by one.
pub(super) fn takes(m: usize, shape: Shape) -> bool {
    m * shape.group() <= MAX_LINES
}

/// Writes `[m, heads * head_dim]`.
pub(super) fn run<E: Stored>(input: &Input<'_, E>, out: Target) {
    let all = input.keys(0..input.visible.len());
    let wanted = all.len().div_ceil(MIN_KEYS);
    let splits = wanted.min(rayon::current_num_threads()).max(1);
    let span = all.len().div_ceil(splits).next_multiple_of(KEY_TILE);
    let spans: Vec<Range<usize>> = (all.clone())
        .step_by(span.max(KEY_TILE))
        .map(|start| start..(start + span).min(all.end))
        .collect();
    let work = |keys: &Range<usize>| {
        let keys = keys.clone();
        input.isa.run(Task { input, keys })
    };
    let parts: Vec<Part> = match spans.as_slice() {
        [only] => vec![work(only)],
        spans => spans.par_iter().map(work).collect(),
    };
    join(&parts, input.shape, input.visible.len(), out);
}

/// Joins the results of the parts of the keys.
fn join(parts: &[Part], shape: Shape, m: usize, out: Target) {
    let group = shape.group();
    let lines = m * group;
    for index in 0..shape.kv_heads * lines {
        let (kv_head, line) = (index / lines, index % lines);
        let head = kv_head * group + line % group;
        // SAFETY: all parts are done, and no other thread writes.
        let sums = unsafe { out.line(line / group, head, shape) };
        let mut softmax = Running::EMPTY;
        for part in parts {
            let (own, others) = softmax.join(part.softmax[index]);
            let values = &part.out[index * part.padded..];
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = *sum * own + value * others;
            }
        }
        sums.iter_mut().for_each(|sum| *sum /= softmax.sum);
    }
}

/// All lines over some of the keys.
struct Task<'a, E> {
    input: &'a Input<'a, E>,
    keys: Range<usize>,
}

/// The buffers of a task.
struct Scratch {
    scores: Vec<f32>, // [kv_heads][lines][KEY_TILE]
    v: Vec<f32>,      // [KEY_TILE][padded], of one head that is not a whole number of panels wide
}

impl<E: Stored> Kernel for Task<'_, E> {
    type Output = Part;

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> Part {
        let (shape, m) = (self.input.shape, self.input.visible.len());
        let lines = m * shape.group();
        let padded = shape.head_dim.next_multiple_of(L::N * PANEL_VECTORS);
        let mut part = Part {
            softmax: vec![Running::EMPTY; shape.kv_heads * lines],
            out: vec![0.0; shape.kv_heads * lines * padded],
            padded,
        };
        let is_whole = padded == shape.head_dim;
        let mut scratch = Scratch {
            scores: vec![0.0; shape.kv_heads * lines * KEY_TILE],
            v: vec![0.0; if is_whole { 0 } else { KEY_TILE * padded }],
        };
        let heads: Vec<Vec<f32>> = (0..shape.kv_heads)
            .map(|kv_head| self.input.queries(0..m, kv_head))
            .collect();
        for start in self.keys.clone().step_by(KEY_TILE) {
            let keys = start..(start + KEY_TILE).min(self.keys.end);
            // SAFETY: the buffers hold one tile of keys; the caller guarantees the instruction set.
            unsafe { self.scores::<L>(&heads, &keys, &mut scratch.scores) }
            let scores = scratch.scores.chunks_exact_mut(lines * KEY_TILE);
            for (kv_head, scores) in scores.enumerate() {
                let softmax = &mut part.softmax[kv_head * lines..][..lines];
                let sums = &mut part.out[kv_head * lines * padded..][..lines * padded];
                // SAFETY: as above.
                unsafe {
                    self.weights::<L>(scores, &keys, softmax, sums);
                    let weights = (&*scores, Strided::<KEY_TILE>);
                    if is_whole {
                        let v = (self.input.values(keys.start, kv_head), shape.kv_width());
                        add_weighted::<L, E>(weights, keys.len(), v, sums, padded);
                    } else {
                        let v = &mut scratch.v;
                        self.input.widen_v::<L>(kv_head, keys.clone(), v, padded);
                        add_weighted::<L, f32>(weights, keys.len(), (v, padded), sums, padded);
                    }
                }
            }
        }
        part
    }
}

impl<E: Stored> Task<'_, E> {
    /// Turns one head's scores of some keys into weights; the sums so far are scaled to the new maximum.
    #[inline(always)]
    unsafe fn weights<L: Lanes>(
        &self,
        scores: &mut [f32],
        keys: &Range<usize>,
        softmax: &mut [Running],
        sums: &mut [f32],
    ) {
        let lines = softmax.iter_mut().zip(scores.chunks_exact_mut(KEY_TILE));
        let sums = sums.chunks_exact_mut(sums.len() / lines.len());
        for (line, ((softmax, scores), sums)) in lines.zip(sums).enumerate() {
            let visible = &self.input.visible[line / self.input.shape.group()];
            let start = visible.start.clamp(keys.start, keys.end) - keys.start;
            let end = visible.end.clamp(keys.start, keys.end) - keys.start;
            if start == end {
                scores.fill(0.0);
                continue;
            }
            // SAFETY: whole tiles and rows; the caller guarantees the instruction set.
            unsafe {
                let factor = softmax.absorb::<L>(scores, start..end);
                scale_row::<L>(sums, factor);
            }
        }
    }

    /// Scores of all lines with some keys; K is read once, in its stored layout.
    #[inline(always)]
    unsafe fn scores<L: Lanes>(&self, heads: &[Vec<f32>], keys: &Range<usize>, scores: &mut [f32]) {
        let dim = self.input.shape.head_dim;
        let of_head = scores.len() / heads.len();
        for (i, key) in keys.clone().enumerate() {
            for (kv_head, q) in heads.iter().enumerate() {
                let k = self.input.key(key, kv_head);
                let scores = &mut scores[kv_head * of_head..][..of_head];
                let lines = q.chunks(LINES * dim);
                for (q, scores) in lines.zip(scores.chunks_mut(LINES * KEY_TILE)) {
                    // SAFETY: `q` holds that many lines, and `scores` a tile for each; the caller guarantees the rest.
                    unsafe {
                        match q.len() / dim {
                            4 => dots::<L, E, 4>(q, k, &mut scores[i..]),
                            3 => dots::<L, E, 3>(q, k, &mut scores[i..]),
                            2 => dots::<L, E, 2>(q, k, &mut scores[i..]),
                            _ => dots::<L, E, 1>(q, k, &mut scores[i..]),
                        }
                    }
                }
            }
        }
    }
}

/// Products of `M` lines `[M][dim]` with one key `[dim]`, written [`KEY_TILE`] apart.
///
/// # Safety
/// The processor must have the instruction set; `scores` must reach to the last line's entry.
#[inline(always)]
unsafe fn dots<L: Lanes, E: Stored, const M: usize>(q: &[f32], k: &[E], scores: &mut [f32]) {
    let dim = k.len();
    let whole = dim / L::N * L::N;
    // SAFETY: vectors inside the key and the lines, which are as long.
    unsafe {
        let mut sums = [L::splat(0.0); M];
        for place in (0..whole).step_by(L::N) {
            let k = E::load::<L>(k.as_ptr().add(place));
            for (line, sum) in sums.iter_mut().enumerate() {
                *sum = L::fma(k, L::load(q.as_ptr().add(line * dim + place)), *sum);
            }
        }
        for (line, &sum) in sums.iter().enumerate() {
            *scores.get_unchecked_mut(line * KEY_TILE) = L::sum(sum);
        }
    }
    if whole < dim {
        for (line, q) in q.chunks_exact(dim).enumerate() {
            scores[line * KEY_TILE] += rest(&q[whole..], &k[whole..]);
        }
    }
}

/// The product of the elements after the last whole vector.
#[inline(never)]
fn rest<E: Stored>(q: &[f32], k: &[E]) -> f32 {
    q.iter().zip(k).map(|(q, k)| q * k.widen()).sum()
}
