//! Which tiles a product is cut into. The cost of one tile was measured; the number of rounds follows from the sizes.

use crate::kernel::gpu::hopper::{GROUP_ROWS, SPAN};

/// The fewest stages of a part.
const MIN_STAGES: usize = 8;
/// The most parts of a sum.
const MAX_PARTS: usize = 8;
/// The time to start, end and write a tile, in ns.
const TILE_NS: usize = 1500;
/// The same for a gated result.
const GATED_TILE_NS: usize = 3500;
/// The time of a launch, in ns.
const LAUNCH_NS: usize = 3000;
/// Bytes that memory moves per ns.
const BYTES_PER_NS: usize = 4000;

/// A block's part of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct WarpgroupTile {
    /// Warpgroups that multiply, 64 rows each.
    pub groups: usize,
    /// Rows of the weight in a stage.
    pub columns: usize,
    /// The time of one stage, in ns, when every multiprocessor is busy (H200, 2026-11-26).
    stage_ns: usize,
}

/// Smaller ones first: of two with equal cost, the smaller is taken.
const TILES: [WarpgroupTile; 7] = [
    WarpgroupTile::new(1, 128, 225),
    WarpgroupTile::new(1, 256, 366),
    WarpgroupTile::new(2, 128, 366),
    WarpgroupTile::new(2, 192, 535),
    WarpgroupTile::new(3, 128, 546),
    WarpgroupTile::new(2, 256, 700),
    WarpgroupTile::new(3, 192, 800),
];

impl WarpgroupTile {
    const fn new(groups: usize, columns: usize, stage_ns: usize) -> Self {
        Self {
            groups,
            columns,
            stage_ns,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.groups * GROUP_ROWS
    }
}

/// One launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub tile: WarpgroupTile,
    /// Parts of the sum; each part of a tile is separate work.
    pub parts: usize,
    /// Stages of a part.
    pub part: usize,
    /// Tiles in all.
    pub tiles: usize,
    /// The time of the launch; 0 until it is estimated.
    ns: usize,
}

impl Plan {
    /// The fastest plan for `[m, k]` times the transposes of `weights` matrices `[n, k]`.
    pub(super) fn of_products([m, k, n]: [usize; 3], weights: usize, processors: usize) -> Self {
        let plans = TILES.iter().flat_map(|tile| {
            let parts = 1..=MAX_PARTS;
            parts.map(move |parts| {
                let columns = weights * n.div_ceil(tile.columns);
                let plan = Self::new(*tile, [m, k], columns, parts);
                let bytes = weights * (2 * n * k + merge_bytes(parts, m, n));
                plan.timed(TILE_NS, processors, bytes)
            })
        });
        let enough = |plan: &Self| plan.parts == 1 || plan.part >= MIN_STAGES;
        fastest(plans.filter(enough))
    }

    /// The fastest plan for two products of that shape, one gating the other; `None` if separate products are faster.
    pub(super) fn of_gated([m, k, n]: [usize; 3], processors: usize) -> Option<Self> {
        let plans = TILES.iter().map(|tile| {
            let columns = n.div_ceil(tile.columns / 2);
            let plan = Self::new(*tile, [m, k], columns, 1);
            plan.timed(GATED_TILE_NS, processors, 4 * n * k)
        });
        let plan = fastest(plans);
        let gate_ns = LAUNCH_NS + 3 * 2 * m * n / BYTES_PER_NS;
        let apart_ns = Self::of_products([m, k, n], 2, processors).ns + gate_ns;
        (plan.ns <= apart_ns).then_some(plan)
    }

    /// A launch of each tile alone.
    pub(super) fn one_of_each_tile() -> impl Iterator<Item = Self> {
        TILES.into_iter().map(|tile| Self::new(tile, [1, 1], 1, 1))
    }

    /// Over `columns` tiles side by side.
    fn new(tile: WarpgroupTile, [m, k]: [usize; 2], columns: usize, parts: usize) -> Self {
        let stages = k.div_ceil(SPAN);
        let part = stages.div_ceil(parts);
        let parts = stages.div_ceil(part);
        Self {
            tile,
            parts,
            part,
            tiles: m.div_ceil(tile.rows()) * columns * parts,
            ns: 0,
        }
    }

    /// The plan with the time it takes, while `bytes` go through memory. Computing and copying overlap, but not fully,
    /// so the shorter of the two counts in part.
    fn timed(mut self, tile_ns: usize, processors: usize, bytes: usize) -> Self {
        let tile_ns = self.part * self.tile.stage_ns + tile_ns;
        let compute_ns = self.tiles.div_ceil(processors) * tile_ns;
        let memory_ns = bytes / BYTES_PER_NS;
        let merge_ns = if self.parts > 1 { LAUNCH_NS } else { 0 };
        let hidden_ns = compute_ns.min(memory_ns) / 8;
        self.ns = compute_ns.max(memory_ns) + hidden_ns + merge_ns + LAUNCH_NS;
        self
    }
}

/// Partial sums are written and read.
fn merge_bytes(parts: usize, m: usize, n: usize) -> usize {
    if parts > 1 { 2 * 4 * parts * m * n } else { 0 }
}

fn fastest(plans: impl Iterator<Item = Plan>) -> Plan {
    let fastest = plans.min_by_key(|plan| plan.ns);
    fastest.expect("every tile makes a plan")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiprocessors of an H200.
    const PROCESSORS: usize = 132;

    fn product(m: usize, k: usize, n: usize) -> Plan {
        Plan::of_products([m, k, n], 1, PROCESSORS)
    }

    #[test]
    fn every_stage_is_in_one_part() {
        for m in [2, 64, 65, 100, 536, 2048, 5000] {
            for (k, n) in [
                (8, 16),
                (576, 1536),
                (4096, 1024),
                (14336, 4096),
                (4096, 128_256),
            ] {
                let plan = product(m, k, n);
                let stages = k.div_ceil(SPAN);
                assert!(plan.parts * plan.part >= stages, "{m} {k} {n}: {plan:?}");
                assert!(
                    (plan.parts - 1) * plan.part < stages,
                    "{m} {k} {n}: {plan:?}"
                );
            }
        }
    }

    #[test]
    fn each_weight_is_cut_into_tiles_of_its_own() {
        let pair = Plan::of_products([70, 4096, 48], 2, PROCESSORS);
        assert_eq!(
            pair.tiles,
            70_usize.div_ceil(pair.tile.rows()) * 2 * pair.parts
        );
    }

    #[test]
    fn few_rows_take_a_small_tile_and_many_a_large_one() {
        assert_eq!(product(64, 4096, 14336).tile.groups, 1);
        let large = product(4096, 4096, 14336).tile;
        assert_eq!(large.rows() * large.columns, 128 * 256);
    }

    #[test]
    fn a_long_sum_over_few_tiles_is_split() {
        assert!(product(64, 14336, 4096).parts > 1);
        assert_eq!(product(2048, 4096, 14336).parts, 1);
    }
}
