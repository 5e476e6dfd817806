//! The vectors that a graph can look up: blocks of the matrix, more of which may come while others
//! are read.

use std::sync::{Arc, OnceLock};

use super::super::matrix::{Block, place};

/// Least number of blocks that there is room for.
const MIN_ROOM: usize = 64;

/// A table of blocks, filled from the front.
#[derive(Debug)]
pub(super) struct Blocks {
    dimension: usize,
    table: Box<[OnceLock<Block>]>,
}

impl Blocks {
    /// A table with these blocks and room for as many more.
    pub(super) fn new(dimension: usize, blocks: &[Block]) -> Arc<Self> {
        let room = (2 * blocks.len()).max(MIN_ROOM);
        let given = blocks.iter().map(|block| OnceLock::from(Arc::clone(block)));
        let free = std::iter::repeat_with(OnceLock::new);
        let table = given.chain(free).take(room).collect();
        Arc::new(Self { dimension, table })
    }

    /// Adds blocks from number `first` on; `false`, and nothing is added, if they do not fit.
    pub(super) fn add(&self, first: usize, blocks: &[Block]) -> bool {
        let Some(free) = self.table.get(first..first + blocks.len()) else {
            return false;
        };
        free.iter()
            .zip(blocks)
            .all(|(place, block)| Arc::ptr_eq(place.get_or_init(|| Arc::clone(block)), block))
    }

    pub(super) fn n_filled(&self) -> usize {
        self.table
            .iter()
            .take_while(|block| block.get().is_some())
            .count()
    }

    /// The vector of a row.
    ///
    /// # Panics
    /// If its block was never added: a bug, which [`super::Graph`] catches.
    pub(super) fn row(&self, row: u32) -> &[f32] {
        let (block, place) = place(row);
        let block = self.table[block]
            .get()
            .expect("rows go in after their block");
        &block[place * self.dimension..(place + 1) * self.dimension]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_added_as_far_as_there_is_room() {
        let block = |value: f32| -> Block { Arc::from(vec![value; 64]) };
        let blocks = Blocks::new(1, &[block(1.0)]);
        let more = [block(2.0), block(3.0)];
        assert!(
            blocks.add(1, &more) && blocks.add(1, &more),
            "what is there may be added again"
        );
        assert_eq!(
            (blocks.row(63), blocks.row(64), blocks.row(191)),
            (&[1.0][..], &[2.0][..], &[3.0][..])
        );
        assert_eq!(blocks.n_filled(), 3);
        assert!(!blocks.add(MIN_ROOM - 1, &[block(4.0), block(5.0)]));
        assert!(!blocks.add(2, &[block(6.0)]), "a block never changes");
    }
}
