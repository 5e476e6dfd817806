//! Rows with equal vectors, of which only the first is a point of the graph.
//!
//! A vector that occurs often, such as that of a licence text, would otherwise fill all links of its
//! points with copies of itself, and the rest of the graph could not be reached through them.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use super::blocks::Blocks;

/// The first row of each vector, and the rows that repeat it.
#[derive(Debug, Default)]
pub(super) struct Twins {
    hasher: RandomState,
    /// First row by the hash of its vector.
    firsts: HashMap<u64, u32>,
    others: HashMap<u32, Vec<u32>>,
}

impl Twins {
    /// Notes a row; `false` if an earlier one has the same vector.
    pub(super) fn is_first(&mut self, row: u32, blocks: &Blocks) -> bool {
        let values = blocks.row(row);
        let hash = self
            .hasher
            .hash_one(bytemuck::cast_slice::<f32, u8>(values));
        let first = *self.firsts.entry(hash).or_insert(row);
        // Two vectors may have one hash; then both are points.
        if first == row || blocks.row(first) != values {
            return true;
        }
        self.others.entry(first).or_default().push(row);
        false
    }

    /// The rows that repeat this one.
    pub(super) fn of(&self, row: u32) -> &[u32] {
        self.others.get(&row).map_or(&[], Vec::as_slice)
    }
}
