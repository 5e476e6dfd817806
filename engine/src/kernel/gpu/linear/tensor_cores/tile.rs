//! The tile of a product on tensor cores, and its layout in shared memory.

use crate::kernel::gpu::fragments::PLANE_UNITS;

/// Octets of a row in a stage: 64 values.
pub(super) const STAGE_OCTETS: usize = 8;
/// Stages that are filled ahead, including the one being multiplied.
pub(super) const STAGES: usize = 3;

/// A cube's part of the result, and how its planes share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ProductTile {
    /// Planes along the rows, and along the columns.
    pub(super) planes: [usize; 2],
    /// Rows and columns of a plane, multiples of 16.
    pub(super) plane: [usize; 2],
}

impl ProductTile {
    /// For `m` rows. The widest tile reads least from shared memory for each product, unless too many of
    /// its rows were empty; it needs 108 kB.
    pub(super) fn new(m: usize, max_shared_bytes: usize) -> Self {
        let halves = m.div_ceil(64);
        let (planes, plane) = match m {
            ..=16 => ([1, 4], [16, 32]),
            17..=32 => ([1, 4], [32, 32]),
            _ if halves % 2 == 1 && halves <= 5 => ([2, 2], [32, 64]),
            _ => ([2, 2], [64, 64]),
        };
        let tile = Self { planes, plane };
        let smaller = Self {
            planes: [2, 2],
            plane: [32, 64],
        };
        match tile.shared_bytes() <= max_shared_bytes {
            true => tile,
            false => smaller,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.planes[0] * self.plane[0]
    }

    pub(super) fn columns(&self) -> usize {
        self.planes[1] * self.plane[1]
    }

    pub(super) fn units(&self) -> usize {
        self.planes[0] * self.planes[1] * PLANE_UNITS
    }

    /// Octets of a row in shared memory: one more keeps eight rows on different banks.
    pub(super) fn stride(&self) -> usize {
        STAGE_OCTETS + 1
    }

    /// Octets of one stage of `x`.
    pub(super) fn x_octets(&self) -> usize {
        self.rows() * self.stride()
    }

    /// Octets of one stage of the weight.
    pub(super) fn weight_octets(&self) -> usize {
        self.columns() * self.stride()
    }

    pub(super) fn shared_bytes(&self) -> usize {
        STAGES * (self.x_octets() + self.weight_octets()) * 16
    }

    /// Fragments of 16 rows of a plane.
    pub(super) fn row_fragments(&self) -> usize {
        self.plane[0] / 16
    }

    /// Fragments of 8 columns of a plane.
    pub(super) fn column_fragments(&self) -> usize {
        self.plane[1] / 8
    }
}
