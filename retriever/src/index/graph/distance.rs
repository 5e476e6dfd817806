//! The distance that the graph uses: 1 - cosine, of rows by their numbers.

use std::sync::Arc;

use hnsw_rs::anndists::dist::Distance;

use super::super::matrix::dot;
use super::blocks::Blocks;

/// 1 - cosine. `hnsw_rs` asserts that distances are not negative, and panics on NaN: neither leaves
/// this.
#[derive(Debug, Clone)]
pub(super) struct RowDistance {
    blocks: Arc<Blocks>,
}

impl RowDistance {
    pub(super) fn new(blocks: &Arc<Blocks>) -> Self {
        let blocks = Arc::clone(blocks);
        Self { blocks }
    }

    /// One number is a row, several are the bits of a query: an index of vectors of one number has
    /// no graph.
    fn vector<'v>(&'v self, point: &'v [u32]) -> &'v [f32] {
        match point {
            [row] => self.blocks.row(*row),
            bits => bytemuck::cast_slice(bits),
        }
    }
}

impl Distance<u32> for RowDistance {
    fn eval(&self, a: &[u32], b: &[u32]) -> f32 {
        distance(self.vector(a), self.vector(b))
    }
}

/// A query as the graph takes it.
pub(super) fn as_point(query: &[f32]) -> &[u32] {
    bytemuck::cast_slice(query)
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    match 1.0 - dot(a, b) {
        distance if distance.is_nan() => f32::MAX,
        distance => distance.max(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_neither_negative_nor_nan() {
        // Rounding takes the length of many unit vectors above 1.
        let long = [1.000_001, 0.0];
        assert_eq!(distance(&long, &long), 0.0);
        assert_eq!(distance(&[f32::NAN, 0.0], &long), f32::MAX);
        assert_eq!(distance(&[1.0, 0.0], &[-1.0, 0.0]), 2.0);
    }

    #[test]
    fn a_query_is_compared_with_rows_by_its_values() {
        let rows: Vec<f32> = (0..64).flat_map(|_| [0.0, 1.0]).collect();
        let distance = RowDistance::new(&Blocks::new(2, &[rows.into()]));
        assert_eq!(distance.eval(as_point(&[0.0, 0.5]), &[3]), 0.5);
        assert_eq!(distance.eval(&[0], &[63]), 0.0);
    }
}
