//! The kernels: the whole sum, a part of it, and the parts put together.

use cubecl::prelude::barrier::{Barrier, copy_async_checked};
use cubecl::prelude::*;

use super::tile::{ProductTile, STAGE_OCTETS, STAGES};
use crate::kernel::gpu::fragments::{
    Fragment, Octet, Pair, lane_column, lane_row, load_left, load_right_transposed, multiply_add,
    new_sums, plane,
};

/// A matrix in memory.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Matrix<F: Float> {
    values: Array<Octet<F>>, // [rows, octets]
    rows: usize,
    octets: usize,
}

/// What the cube multiplies.
#[derive(CubeType)]
struct Place {
    first_row: usize,
    first_column: usize,
    /// Stages along the sum.
    first_stage: usize,
    n_stages: usize,
}

/// Two matrices in shared memory, stage after stage.
#[derive(CubeType)]
struct Stages<F: Float> {
    x: SharedMemory<Octet<F>>,      // [STAGES, rows, stride]
    weight: SharedMemory<Octet<F>>, // [STAGES, columns, stride]
    full: Sequence<Shared<Barrier>>,
}

#[cube]
fn new_stages<F: Float>(#[comptime] tile: ProductTile) -> Stages<F> {
    let mut full = Sequence::<Shared<Barrier>>::new();
    #[unroll]
    for _ in 0..STAGES {
        full.push(Barrier::shared(CUBE_DIM, UNIT_POS == 0));
    }
    let x = SharedMemory::<Octet<F>>::new_aligned(comptime!(STAGES * tile.x_octets()), 16usize);
    let weight =
        SharedMemory::<Octet<F>>::new_aligned(comptime!(STAGES * tile.weight_octets()), 16usize);
    Stages::<F> { x, weight, full }
}

/// Begins to copy `[n_rows, STAGE_OCTETS]` from row `first_row` and octet `first_octet`; zeros outside
/// the matrix.
#[cube]
fn copy_rows<F: Float>(
    matrix: &Matrix<F>,
    first_row: usize,
    first_octet: usize,
    shared: &mut SharedMemory<Octet<F>>,
    first: usize,
    #[comptime] n_rows: usize,
    #[comptime] tile: ProductTile,
) {
    let octets = matrix.octets;
    #[unroll]
    for round in 0..comptime!(n_rows * STAGE_OCTETS / tile.units()) {
        let i = UNIT_POS as usize + round * comptime!(tile.units());
        let (row, octet) = (i / STAGE_OCTETS, i % STAGE_OCTETS);
        let there = first_row + row < matrix.rows && first_octet + octet < octets;
        let from = select(there, (first_row + row) * octets + first_octet + octet, 0);
        let len = select(there, 1usize, 0usize);
        let to = first + row * comptime!(tile.stride()) + octet;
        copy_async_checked(
            &matrix.values.slice(from, from + len),
            &mut shared.slice_mut(to, to + 1),
            8u32,
        );
    }
}

/// Begins to fill stage `slot` with what stage `index` of the sum needs.
#[cube]
fn fill<F: Float>(
    x: &Matrix<F>,
    weight: &Matrix<F>,
    stages: &mut Stages<F>,
    place: &Place,
    index: usize,
    #[comptime] slot: usize,
    #[comptime] tile: ProductTile,
) {
    if index < place.n_stages {
        let octet = (place.first_stage + index) * STAGE_OCTETS;
        let (row, column) = (place.first_row, place.first_column);
        let first_x = comptime!(slot * tile.x_octets());
        let first_weight = comptime!(slot * tile.weight_octets());
        copy_rows(
            x,
            row,
            octet,
            &mut stages.x,
            first_x,
            comptime!(tile.rows()),
            tile,
        );
        let n_columns = comptime!(tile.columns());
        copy_rows(
            weight,
            column,
            octet,
            &mut stages.weight,
            first_weight,
            n_columns,
            tile,
        );
        let full = stages.full.index(slot);
        full.commit_copy_async();
        full.arrive();
    }
}

/// What a plane multiplies at once: 16 columns of its rows of `x` and of the weight.
#[derive(CubeType)]
struct Operands<F: Float> {
    left: Sequence<Fragment<F>>,  // [row_fragments]
    right: Sequence<Fragment<F>>, // [column_fragments]
}

#[cube]
fn load_operands<F: Float>(
    stages: &Stages<F>,
    #[comptime] slot: usize,
    #[comptime] step: usize,
    #[comptime] tile: ProductTile,
) -> Operands<F> {
    let stride = comptime!(tile.stride());
    let first_row = comptime!(slot * tile.rows()) + plane_row(tile);
    let first_column = comptime!(slot * tile.columns()) + plane_column(tile);
    let mut left = Sequence::<Fragment<F>>::new();
    #[unroll]
    for i in 0..comptime!(tile.row_fragments()) {
        left.push(load_left(&stages.x, first_row + i * 16, step * 2, stride));
    }
    let mut right = Sequence::<Fragment<F>>::new();
    #[unroll]
    for j in 0..comptime!(tile.column_fragments() / 2) {
        let column = first_column + j * 16;
        load_right_transposed(&mut right, &stages.weight, column, step * 2, stride);
    }
    Operands::<F> { left, right }
}

/// Adds the product of the two matrices in stage `slot`. The next fragments are loaded while these are multiplied.
#[cube]
fn multiply<F: Float>(
    stages: &Stages<F>,
    sums: &mut Sequence<Fragment<f32>>,
    #[comptime] slot: usize,
    #[comptime] tile: ProductTile,
) {
    let mut steps = Sequence::<Operands<F>>::new();
    steps.push(load_operands(stages, slot, 0usize, tile));
    #[unroll]
    for step in 0..comptime!(STAGE_OCTETS / 2) {
        if comptime!(step + 1 < STAGE_OCTETS / 2) {
            steps.push(load_operands(stages, slot, comptime!(step + 1), tile));
        }
        let operands = steps.index(step);
        #[unroll]
        for i in 0..comptime!(tile.row_fragments()) {
            #[unroll]
            for j in 0..comptime!(tile.column_fragments()) {
                let at = i * comptime!(tile.column_fragments()) + j;
                let (left, right) = (operands.left.index(i), operands.right.index(j));
                multiply_add(left, right, sums.index_mut(at));
            }
        }
    }
}

/// The plane's first row in its cube.
#[cube]
fn plane_row(#[comptime] tile: ProductTile) -> usize {
    plane() / comptime!(tile.planes[1]) * comptime!(tile.plane[0])
}

/// The plane's first column in its cube.
#[cube]
fn plane_column(#[comptime] tile: ProductTile) -> usize {
    plane() % comptime!(tile.planes[1]) * comptime!(tile.plane[1])
}

/// The plane's part of the product: `[row_fragments, column_fragments]`.
#[cube]
fn product<F: Float>(
    x: &Matrix<F>,
    weight: &Matrix<F>,
    place: &Place,
    #[comptime] tile: ProductTile,
) -> Sequence<Fragment<f32>> {
    let mut stages = new_stages::<F>(tile);
    let mut sums = new_sums(comptime!(tile.row_fragments() * tile.column_fragments()));
    #[unroll]
    for slot in 0..comptime!(STAGES - 1) {
        fill(x, weight, &mut stages, place, slot, slot, tile);
    }
    let rounds = place.n_stages.div_ceil(STAGES);
    for round in 0..rounds {
        #[unroll]
        for slot in 0..STAGES {
            let index = round * STAGES + slot;
            if index < place.n_stages {
                stages.full.index(slot).wait_parity(round as u32 % 2);
                sync_cube(); // no unit needs the previous stage any more
                let next = comptime!((slot + STAGES - 1) % STAGES);
                fill(
                    x,
                    weight,
                    &mut stages,
                    place,
                    index + comptime!(STAGES - 1),
                    next,
                    tile,
                );
                multiply(&stages, &mut sums, slot, tile);
            }
        }
    }
    sums
}

/// All stages of the sum, or those of part `CUBE_POS_Z`.
#[cube]
fn place_of_cube<F: Float>(x: &Matrix<F>, part: usize, #[comptime] tile: ProductTile) -> Place {
    let stages = x.octets.div_ceil(STAGE_OCTETS);
    let first_stage = CUBE_POS_Z as usize * part;
    Place {
        first_row: CUBE_POS_X as usize * comptime!(tile.rows()),
        first_column: CUBE_POS_Y as usize * comptime!(tile.columns()),
        first_stage,
        n_stages: min(part, stages - first_stage),
    }
}

/// Where a lane's pair of sums goes in `[m, n]`: its row, and its first column.
#[cube]
fn place_of_pair(
    place: &Place,
    #[comptime] fragment: usize,
    #[comptime] half: usize,
    #[comptime] tile: ProductTile,
) -> (usize, usize) {
    let fragments = comptime!(tile.column_fragments());
    let row = comptime!(fragment / fragments * 16 + half * 8) + plane_row(tile) + lane_row();
    let column = comptime!(fragment % fragments * 8) + plane_column(tile) + lane_column();
    (place.first_row + row, place.first_column + column)
}

#[cube(launch)]
pub(super) fn project_kernel<F: Float>(
    x: &Matrix<F>,            // [m, k / 8]
    weight: &Matrix<F>,       // [n, k / 8]
    out: &mut Array<Pair<F>>, // [m, n / 2]
    #[comptime] tile: ProductTile,
    #[define(F)] _dtype: StorageType,
) {
    let stages = x.octets.div_ceil(STAGE_OCTETS);
    let place = place_of_cube(x, stages, tile);
    let sums = product(x, weight, &place, tile);
    let (m, n) = (x.rows, weight.rows);
    #[unroll]
    for fragment in 0..comptime!(tile.row_fragments() * tile.column_fragments()) {
        #[unroll]
        for half in 0..2usize {
            let (row, column) = place_of_pair(&place, fragment, half, tile);
            if row < m && column < n {
                out[(row * n + column) / 2] = Vector::cast_from(sums.index(fragment)[half]);
            }
        }
    }
}

/// Part `CUBE_POS_Z` of the sum: `part` stages of it.
#[cube(launch)]
pub(super) fn project_part_kernel<F: Float>(
    x: &Matrix<F>,               // [m, k / 8]
    weight: &Matrix<F>,          // [n, k / 8]
    sums: &mut Array<Pair<f32>>, // [parts, m, n / 2]
    part: usize,
    #[comptime] tile: ProductTile,
    #[define(F)] _dtype: StorageType,
) {
    let place = place_of_cube(x, part, tile);
    let product = product(x, weight, &place, tile);
    let (m, n) = (x.rows, weight.rows);
    #[unroll]
    for fragment in 0..comptime!(tile.row_fragments() * tile.column_fragments()) {
        #[unroll]
        for half in 0..2usize {
            let (row, column) = place_of_pair(&place, fragment, half, tile);
            if row < m && column < n {
                let at = (CUBE_POS_Z as usize * m + row) * n + column;
                sums[at / 2] = product.index(fragment)[half];
            }
        }
    }
}

/// The unit's pair of the result, over the parts of `[parts, m, n / 2]`.
#[cube]
fn sum_of_parts(sums: &Array<Pair<f32>>, pairs: usize) -> Pair<f32> {
    let mut sum = Pair::<f32>::new(0.0);
    for part in 0..sums.len() / pairs {
        sum += sums[part * pairs + ABSOLUTE_POS];
    }
    sum
}

/// One unit per pair of the result.
#[cube(launch)]
pub(super) fn merge_kernel<F: Float>(
    sums: &Array<Pair<f32>>,  // [parts, m, n / 2]
    out: &mut Array<Pair<F>>, // [m, n / 2]
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    out[ABSOLUTE_POS] = Vector::cast_from(sum_of_parts(sums, out.len()));
}

/// The same, with something to add.
#[cube(launch)]
pub(super) fn merge_add_kernel<F: Float>(
    sums: &Array<Pair<f32>>,   // [parts, m, n / 2]
    residual: &Array<Pair<F>>, // [m, n / 2]
    out: &mut Array<Pair<F>>,  // [m, n / 2]
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let sum = sum_of_parts(sums, out.len()) + Vector::cast_from(residual[ABSOLUTE_POS]);
    out[ABSOLUTE_POS] = Vector::cast_from(sum);
}
