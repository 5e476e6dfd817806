//! Dense vectors of unit length, compared by cosine.
//!
//! Full blocks never change and are shared with the search graph, so that each vector is in memory
//! once.

use std::sync::Arc;

use rayon::prelude::*;

use super::rank::Best;
use crate::error::RetrieverError;

/// Vectors in a block.
pub(super) const BLOCK_ROWS: usize = 64;

/// Numbers in a matrix from which on all cores score it; 4 MB take one core about 0.3 ms.
const PARALLEL_FROM: usize = 1 << 20;

/// [`BLOCK_ROWS`] vectors, one after the other.
pub(super) type Block = Arc<[f32]>;

/// Vectors of one dimension, each of length 1.
#[derive(Debug)]
pub(super) struct Matrix {
    dimension: usize,
    blocks: Vec<Block>,
    /// The rows after the last full block.
    tail: Vec<f32>,
}

impl Matrix {
    /// A matrix without rows.
    pub(super) fn new(dimension: usize) -> Self {
        Self {
            dimension,
            blocks: Vec::new(),
            tail: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, row: &[f32]) -> Result<(), RetrieverError> {
        self.check(row)?;
        self.push_unit(&unit(row));
        Ok(())
    }

    pub(super) fn dimension(&self) -> usize {
        self.dimension
    }

    /// The full blocks; row `r` is in block `r / BLOCK_ROWS`.
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(super) fn row(&self, row: u32) -> &[f32] {
        let (block, place) = place(row);
        let values = self.blocks.get(block).map_or(&self.tail[..], |block| block);
        &values[place * self.dimension..(place + 1) * self.dimension]
    }

    /// The best rows from block `first` on. `admit` is asked about few rows, and gives chunk ids.
    pub(super) fn scan<'i>(
        &self,
        first: usize,
        query: &[f32],
        top_k: usize,
        admit: impl Fn(u32) -> Option<&'i str> + Sync,
    ) -> Best<'i> {
        let score = |mut best: Best<'i>, (block, values): (usize, &[f32])| {
            let rows = ((block * BLOCK_ROWS) as u32..).zip(values.chunks_exact(self.dimension));
            for (row, values) in rows {
                best.offer(row, dot(values, query), || admit(row));
            }
            best
        };
        let tail = (self.blocks.len(), &self.tail[..]);
        let blocks = &self.blocks[first.min(self.blocks.len())..];
        if blocks.len() * BLOCK_ROWS * self.dimension < PARALLEL_FROM {
            let blocks = (first..).zip(blocks).map(|(n, block)| (n, &block[..]));
            return blocks.chain([tail]).fold(Best::new(top_k), score);
        }
        let blocks = blocks.par_iter().enumerate();
        let parts = blocks
            .map(|(n, block)| (first + n, &block[..]))
            .fold(|| Best::new(top_k), score);
        score(parts.reduce(|| Best::new(top_k), Best::merge), tail)
    }

    /// Gives the rows their new numbers, which leave no gap, and drops those without one.
    pub(super) fn renumber(&mut self, new_row: &[Option<u32>]) {
        let mut order: Vec<(u32, u32)> = (0..)
            .zip(new_row)
            .filter_map(|(old, new)| new.map(|new| (new, old)))
            .collect();
        order.sort_unstable();
        let mut packed = Self::new(self.dimension);
        for (_, old) in order {
            packed.push_unit(self.row(old));
        }
        *self = packed;
    }

    pub(super) fn check(&self, row: &[f32]) -> Result<(), RetrieverError> {
        if row.len() == self.dimension {
            return Ok(());
        }
        Err(RetrieverError::WrongDimension {
            expected: self.dimension,
            found: row.len(),
        })
    }

    fn push_unit(&mut self, row: &[f32]) {
        if self.tail.capacity() == 0 && !self.blocks.is_empty() {
            self.tail.reserve_exact(BLOCK_ROWS * self.dimension);
        }
        self.tail.extend_from_slice(row);
        if self.tail.len() == BLOCK_ROWS * self.dimension {
            self.blocks.push(Arc::from(std::mem::take(&mut self.tail)));
        }
    }
}

/// Block and place in it.
pub(super) fn place(row: u32) -> (usize, usize) {
    let row = row as usize;
    (row / BLOCK_ROWS, row % BLOCK_ROWS)
}

/// The vector at length 1. The length is taken in f64, where no finite f32 overflows.
pub(super) fn unit(values: &[f32]) -> Vec<f32> {
    let length = values
        .iter()
        .map(|&v| f64::from(v).powi(2))
        .sum::<f64>()
        .sqrt();
    values
        .iter()
        .map(|&v| (f64::from(v) / length) as f32)
        .collect()
}

/// Sixteen sums side by side, which the compiler turns into vector instructions.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<16>();
    let (b_lanes, b_rest) = b.as_chunks::<16>();
    let mut sums = [0.0f32; 16];
    for (x, y) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..16 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Option<&str> = Some("id");

    #[test]
    fn scores_are_cosines_of_any_length_of_vector() {
        let mut matrix = Matrix::new(2);
        for row in [[3.0, 4.0], [-1e38, 0.0], [0.0, 1e-40]] {
            matrix.push(&row).unwrap();
        }
        let best = |matrix: &Matrix| matrix.scan(0, &[1.0, 0.0], 9, |_| ID).into_rows();
        assert_eq!(best(&matrix), [(0, 0.6), (2, 0.0), (1, -1.0)]);
        matrix.renumber(&[None, Some(1), Some(0)]);
        assert_eq!(best(&matrix), [(0, 0.0), (1, -1.0)]);
    }

    #[test]
    fn a_large_matrix_is_scored_like_a_small_one() {
        let dimension = PARALLEL_FROM / BLOCK_ROWS / 2;
        let mut matrix = Matrix::new(dimension);
        let n = 3 * BLOCK_ROWS as u32 + 5;
        for row in 0..n {
            let mut values = vec![0.0; dimension];
            values[0] = ((row * 37) % n) as f32 / n as f32;
            values[1] = 1.0;
            matrix.push(&values).unwrap();
        }
        let mut query = vec![0.0; dimension];
        query[0] = 1.0;
        let found = matrix.scan(0, &query, 5, |_| ID).into_rows();
        let mut all: Vec<(u32, f32)> = (0..n)
            .map(|row| (row, dot(matrix.row(row), &query)))
            .collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        assert_eq!(found, all[..5]);
        let odd = matrix
            .scan(1, &query, 5, |row| (row % 2 == 1).then_some("id"))
            .into_rows();
        all.retain(|(row, _)| *row >= BLOCK_ROWS as u32 && row % 2 == 1);
        assert_eq!(odd, all[..5]);
    }

    #[test]
    fn dot_counts_every_element() {
        let a: Vec<f32> = (0..35).map(|i| i as f32).collect();
        assert_eq!(dot(&a, &[1.0; 35]), 595.0);
    }
}
