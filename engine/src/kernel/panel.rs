//! Products of activations and weights on the CPU: weights packed in panels once, and the loops around the tile.
//!
//! A row's result does not depend on how many rows there are, nor on how the work is split: KV computed alone equals
//! KV computed in a prompt, bit for bit.
#![expect(unsafe_code, reason = "threads write disjoint parts of one output")]

use std::ops::Range;

use rayon::prelude::*;

use super::simd::{Isa, Kernel, Lanes, Stored};
use super::tile::{Interleaved, PANEL_VECTORS, Product, pack_rows, packed_len, widen};

/// Longest part of `k` done at once: a panel's part then stays in the L1 cache.
const MAX_K: usize = 512;
/// Most floats of the rows of a task: they stay in its L2 cache.
const BLOCK_FLOATS: usize = 48 * 1024;
/// Rows of a task are a multiple of every tile's height.
const BLOCK_ROWS: usize = 12;
/// The fewest multiply-adds for which another thread is worth waking.
const MIN_TASK_WORK: usize = 1 << 17;
/// The same for one row, in bytes of weights. One thread reads about half as fast as all threads do; these bytes take
/// about as long to read as another thread takes to wake.
const MIN_ROW_TASK_BYTES: usize = 256 << 10;
/// Tasks per thread, so that none waits long for the last one.
const TASKS_PER_THREAD: usize = 4;
/// Panels that one row is multiplied with at a time: enough independent chains to hide the latency of an addition.
const ROW_PANELS: usize = 4;
/// Floats of a panel's row on the widest instruction set.
const MAX_WIDTH: usize = 32;

/// A weight matrix `[n, k]` in panels as wide as a register tile: `[panels][k][width]`.
pub(super) struct Packed<E> {
    data: Vec<E>,
    n: usize,
    k: usize,
    width: usize,
    isa: Isa,
}

impl<E: Stored> Packed<E> {
    /// Packs a row-major `[n, k]`; the last panel is filled up with zeros.
    pub(super) fn new(weight: &[E], [n, k]: [usize; 2], isa: Isa) -> Self {
        let width = isa.lanes() * PANEL_VECTORS;
        let mut data = vec![E::narrow(0.0); n.div_ceil(width) * k * width];
        let panels = data.par_chunks_exact_mut(k * width).enumerate();
        panels.for_each(|(panel, out)| {
            let rows = weight.chunks_exact(k).skip(panel * width).take(width);
            for (column, row) in rows.enumerate() {
                let places = out.iter_mut().skip(column).step_by(width);
                places.zip(row).for_each(|(place, &value)| *place = value);
            }
        });
        Self {
            data,
            n,
            k,
            width,
            isa,
        }
    }

    /// Outputs and inputs.
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.n, self.k]
    }

    /// One row of the matrix, widened.
    pub(super) fn row(&self, index: usize) -> impl Iterator<Item = f32> {
        let panel = self.panel(index / self.width);
        let values = panel.iter().skip(index % self.width).step_by(self.width);
        values.map(|value| value.widen())
    }

    fn n_panels(&self) -> usize {
        self.n.div_ceil(self.width)
    }

    fn panel(&self, index: usize) -> &[E] {
        &self.data[index * self.k * self.width..][..self.k * self.width]
    }
}

/// `x w^T`: `[m, k]` to `[m, n]`.
pub(super) fn multiply<E: Stored>(x: &[f32], w: &Packed<E>) -> Vec<f32> {
    let m = x.len() / w.k;
    let mut out = Vec::with_capacity(m * w.n);
    let target = Target(out.as_mut_ptr());
    let tasks = split(m, w);
    let run = |task: &Task| w.isa.run(Multiply { x, w, target, task });
    match tasks.as_slice() {
        [only] => run(only),
        tasks => tasks.par_iter().for_each(run),
    }
    // SAFETY: the tasks cover all rows and all panels, and have written each element.
    unsafe { out.set_len(m * w.n) };
    out
}

/// The rows and panels that one thread computes.
struct Task {
    rows: Range<usize>,
    panels: Range<usize>,
}

/// Row blocks that fit into a cache; panels so that every thread gets some.
fn split<E: Stored>(m: usize, w: &Packed<E>) -> Vec<Task> {
    let block = BLOCK_FLOATS / w.k.min(MAX_K) / BLOCK_ROWS * BLOCK_ROWS;
    let n_blocks = m.div_ceil(block.max(BLOCK_ROWS));
    let rows = m.div_ceil(n_blocks.max(1)).next_multiple_of(BLOCK_ROWS);
    let wanted = (TASKS_PER_THREAD * rayon::current_num_threads()).div_ceil(n_blocks.max(1));
    let worth = match m {
        1 => w.k * w.n * size_of::<E>() / MIN_ROW_TASK_BYTES,
        _ => rows.min(m) * w.k * w.n / MIN_TASK_WORK,
    };
    let panels = w.n_panels().div_ceil(wanted.min(worth).max(1));
    let panels = panels.next_multiple_of(if m == 1 { ROW_PANELS } else { 1 });
    let mut tasks = Vec::new();
    for first in (0..w.n_panels()).step_by(panels) {
        for row in (0..m).step_by(rows) {
            tasks.push(Task {
                rows: row..(row + rows).min(m),
                panels: first..(first + panels).min(w.n_panels()),
            });
        }
    }
    tasks
}

/// The output; each task writes its own part.
#[derive(Clone, Copy)]
struct Target(*mut f32);

// SAFETY: tasks write disjoint parts.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

struct Multiply<'a, E> {
    x: &'a [f32],
    w: &'a Packed<E>,
    target: Target,
    task: &'a Task,
}

impl<E: Stored> Kernel for Multiply<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller guarantees the instruction set.
        unsafe {
            match self.task.rows.len() {
                1 => self.one_row::<L>(),
                _ => self.block::<L>(),
            }
        }
    }
}

impl<E: Stored> Multiply<'_, E> {
    /// Multiplies the task's rows with its panels, one part of `k` after the other.
    #[inline(always)]
    unsafe fn block<L: Lanes>(&self) {
        let (k, width) = (self.w.k, self.w.width);
        let part_k = k.div_ceil(k.div_ceil(MAX_K));
        let mut wide = vec![0.0; if E::IS_F32 { 0 } else { part_k * width }];
        let mut rows = vec![0.0; packed_len::<L>(self.task.rows.len(), part_k)];
        // The last panel may be wider than what is left of the matrix.
        let mut edge = vec![0.0; self.task.rows.len() * width];
        for start in (0..k).step_by(part_k) {
            let part = start..(start + part_k).min(k);
            let x = &self.x[self.task.rows.start * k + part.start..];
            let rows = &mut rows[..packed_len::<L>(self.task.rows.len(), part.len())];
            pack_rows::<L>(x, [self.task.rows.len(), part.len()], k, rows);
            for panel in self.task.panels.clone() {
                let values = &self.w.panel(panel)[part.start * width..part.end * width];
                let whole = (panel + 1) * width <= self.w.n;
                // SAFETY: the task's part of the target is its own, and `edge` has room for its rows.
                unsafe {
                    let b = match E::IS_F32 {
                        true => values.as_ptr().cast::<f32>(),
                        false => {
                            widen::<L, E>(values, &mut wide);
                            wide.as_ptr()
                        }
                    };
                    let product = Product {
                        m: self.task.rows.len(),
                        k: part.len(),
                        a: rows.as_ptr(),
                        layout: Interleaved,
                        b,
                        b_stride: width,
                        c: if whole {
                            self.place(panel)
                        } else {
                            edge.as_mut_ptr()
                        },
                        c_stride: if whole { self.w.n } else { width },
                        accumulate: part.start > 0,
                    };
                    product.run::<L>();
                }
            }
        }
        if self.task.panels.end * width > self.w.n {
            self.copy_edge(&edge);
        }
    }

    /// Writes the columns of the last panel that exist.
    fn copy_edge(&self, edge: &[f32]) {
        let (panel, width) = (self.task.panels.end - 1, self.w.width);
        for (row, values) in edge.chunks_exact(width).enumerate() {
            let values = &values[..self.w.n - panel * width];
            // SAFETY: the task's part of the target is its own.
            unsafe {
                let to = self.place(panel).add(row * self.w.n);
                to.copy_from_nonoverlapping(values.as_ptr(), values.len());
            }
        }
    }

    /// Where the task's first row meets a panel.
    unsafe fn place(&self, panel: usize) -> *mut f32 {
        let offset = self.task.rows.start * self.w.n + panel * self.w.width;
        // SAFETY: inside the output.
        unsafe { self.target.0.add(offset) }
    }

    /// One row: the panels are read once, in order.
    #[inline(always)]
    unsafe fn one_row<L: Lanes>(&self) {
        let (k, width) = (self.w.k, self.w.width);
        let x = &self.x[self.task.rows.start * k..][..k];
        for first in self.task.panels.clone().step_by(ROW_PANELS) {
            let count = ROW_PANELS.min(self.task.panels.end - first);
            let panels = &self.w.data[first * k * width..(first + count) * k * width];
            let mut sums = [0.0; ROW_PANELS * MAX_WIDTH];
            // SAFETY: `count` panels exist, and `sums` has room for them.
            unsafe {
                match count {
                    4 => row_times_panels::<L, E, 4>(x, panels, &mut sums),
                    3 => row_times_panels::<L, E, 3>(x, panels, &mut sums),
                    2 => row_times_panels::<L, E, 2>(x, panels, &mut sums),
                    _ => row_times_panels::<L, E, 1>(x, panels, &mut sums),
                }
                let len = (count * width).min(self.w.n - first * width);
                let to = self.place(first);
                to.copy_from_nonoverlapping(sums.as_ptr(), len);
            }
        }
    }
}

/// One row `[k]` times `P` consecutive panels `[k][width]`.
#[inline(always)]
unsafe fn row_times_panels<L: Lanes, E: Stored, const P: usize>(
    x: &[f32],
    panels: &[E],
    out: &mut [f32],
) {
    let width = L::N * PANEL_VECTORS;
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut sums = [[L::splat(0.0); PANEL_VECTORS]; P];
        let mut places: [*const E; P] =
            std::array::from_fn(|panel| panels.as_ptr().add(panel * x.len() * width));
        for &x in x {
            let x = L::splat(x);
            for (sums, place) in sums.iter_mut().zip(&mut places) {
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum = L::fma(x, E::load::<L>(place.add(j * L::N)), *sum);
                }
                *place = place.wrapping_add(width);
            }
        }
        for (sums, out) in sums.iter().zip(out.chunks_exact_mut(width)) {
            for (j, &sum) in sums.iter().enumerate() {
                L::store(out.as_mut_ptr().add(j * L::N), sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::sampling::Random;

    fn values(n: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(Some(seed));
        (0..n).map(|_| random.unit() as f32 * 2.0 - 1.0).collect()
    }

    fn expected(x: &[f32], w: &[f32], k: usize) -> Vec<f64> {
        let dot = |row: &[f32], weights: &[f32]| -> f64 {
            let products = row.iter().zip(weights);
            products.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        let rows = x.chunks_exact(k);
        rows.flat_map(|row| w.chunks_exact(k).map(move |weights| dot(row, weights)))
            .collect()
    }

    #[test]
    fn products_equal_sums_in_double_precision() {
        for isa in Isa::all() {
            for [m, n, k] in [
                [1, 1, 1],
                [1, 70, 33],
                [2, 16, 64],
                [13, 50, 600],
                [150, 33, 1100],
            ] {
                let (x, w) = (values(m * k, 1), values(n * k, 2));
                let actual = multiply(&x, &Packed::new(&w, [n, k], isa));
                assert_eq!(actual.len(), m * n);
                for (i, (actual, expected)) in actual.iter().zip(expected(&x, &w, k)).enumerate() {
                    let error = (f64::from(*actual) - expected).abs();
                    assert!(
                        error < 2e-5 * (k as f64).sqrt(),
                        "{isa:?} {m}x{n}x{k} at {i}: {error}"
                    );
                }
            }
        }
    }

    #[test]
    fn narrow_weights_give_what_their_widened_values_give() {
        let (x, w) = (values(9 * 70, 1), values(40 * 70, 2));
        let narrow: Vec<f16> = w.iter().map(|&x| f16::from_f32(x)).collect();
        let wide: Vec<f32> = narrow.iter().map(|x| x.to_f32()).collect();
        for isa in Isa::all() {
            let expected = multiply(&x, &Packed::new(&wide, [40, 70], isa));
            assert_eq!(multiply(&x, &Packed::new(&narrow, [40, 70], isa)), expected);
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_company() {
        let [m, n, k] = [300, 200, 700];
        let (x, w) = (values(m * k, 1), values(n * k, 2));
        for isa in Isa::all() {
            let w = Packed::new(&w, [n, k], isa);
            let together = multiply(&x, &w);
            for rows in [0..1, 5..7, 100..113, 299..300] {
                let alone = multiply(&x[rows.start * k..rows.end * k], &w);
                assert_eq!(
                    alone,
                    together[rows.start * n..rows.end * n],
                    "{isa:?} {rows:?}"
                );
            }
        }
    }
}
