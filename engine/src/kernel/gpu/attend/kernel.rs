//! The kernels: whole rows, a part of the keys, and the parts put together.

use cubecl::prelude::*;

use super::load::{
    HIDDEN, Input, Keys, head_of_line, last_key, load_lines, new_shared, place_of_cube,
};
use super::tile::{LANES, LINES_PER_UNIT, LineTile};
use super::walk::{Running, new_running, walk, whole_totals};

/// Writes the lane's sums for its line `r` to the head that begins at `first`.
#[cube]
fn write_sums<F: Float>(
    running: &Running,
    #[comptime] r: usize,
    scale: f32,
    out: &mut Array<F>,
    first: usize,
    #[comptime] tile: LineTile,
) {
    let lane_quads = comptime!(tile.lane_quads());
    #[unroll]
    for j in 0..lane_quads {
        let values = running.sums[r * lane_quads + j];
        #[unroll]
        for i in 0..4usize {
            let dim = (UNIT_POS as usize % LANES + j * LANES) * 4 + i;
            if dim < comptime!(tile.head_dim) {
                out[first + dim] = F::cast_from(values[i] * scale);
            }
        }
    }
}

#[cube(launch)]
pub(super) fn attend_kernel<F: Float>(
    input: &Input<F>,
    out: &mut Array<F>, // [m, heads, head_dim]
    #[comptime] tile: LineTile,
    #[define(F)] _dtype: StorageType,
) {
    let place = place_of_cube::<F>(input, tile);
    let mut shared = new_shared(tile);
    let mut running = new_running(tile);
    load_lines(input, &place, &mut shared, tile);
    sync_cube();
    let keys = Keys {
        begin: shared.from[0] as usize,
        end: last_key(&shared, &place, tile),
    };
    walk(input, &place, &mut shared, &mut running, &keys, tile);
    whole_totals(&mut shared, &mut running);

    let first_line = UNIT_POS as usize / LANES * LINES_PER_UNIT;
    #[unroll]
    for r in 0..LINES_PER_UNIT {
        if place.first_line + first_line + r < place.n_lines {
            let first = head_of_line(&place, first_line + r) * comptime!(tile.head_dim);
            write_sums(&running, r, 1.0 / running.totals[r], out, first, tile);
        }
    }
}

/// Part `CUBE_POS_Z` of the keys: sums, and peak and total for each of them.
#[cube(launch)]
pub(super) fn attend_part_kernel<F: Float>(
    input: &Input<F>,
    sums: &mut Array<f32>,   // [parts, m * heads, head_dim]
    states: &mut Array<f32>, // [parts, m * heads, 2]
    part: usize,
    #[comptime] tile: LineTile,
    #[define(F)] _dtype: StorageType,
) {
    let place = place_of_cube::<F>(input, tile);
    let mut shared = new_shared(tile);
    let mut running = new_running(tile);
    load_lines(input, &place, &mut shared, tile);
    sync_cube();
    let first_key = input.visible[0] as usize;
    let begin = first_key + CUBE_POS_Z as usize * part;
    let keys = Keys {
        begin,
        end: min(begin + part, last_key(&shared, &place, tile)),
    };
    walk(input, &place, &mut shared, &mut running, &keys, tile);
    whole_totals(&mut shared, &mut running);

    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let first_line = unit / LANES * LINES_PER_UNIT;
    let n_heads = place.n_lines * place.kv_heads; // of all rows
    #[unroll]
    for r in 0..LINES_PER_UNIT {
        if place.first_line + first_line + r < place.n_lines {
            let head = CUBE_POS_Z as usize * n_heads + head_of_line(&place, first_line + r);
            write_sums(
                &running,
                r,
                1.0,
                sums,
                head * comptime!(tile.head_dim),
                tile,
            );
            if lane == 0 {
                states[head * 2] = running.peaks[r];
                states[head * 2 + 1] = running.totals[r];
            }
        }
    }
}

/// One unit per element of the result.
#[cube(launch)]
pub(super) fn merge_kernel<F: Float>(
    sums: &Array<f32>,   // [parts, m * heads, head_dim]
    states: &Array<f32>, // [parts, m * heads, 2]
    out: &mut Array<F>,  // [m * heads, head_dim]
    head_dim: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let (parts, n_heads) = (sums.len() / out.len(), out.len() / head_dim);
    let head = ABSOLUTE_POS / head_dim;
    let mut peak = f32::new(HIDDEN);
    for part in 0..parts {
        peak = max(peak, states[(part * n_heads + head) * 2]);
    }
    let mut sum = 0.0f32;
    let mut total = 0.0f32;
    for part in 0..parts {
        let state = (part * n_heads + head) * 2;
        let scale = (states[state] - peak).exp();
        sum += sums[part * out.len() + ABSOLUTE_POS] * scale;
        total += states[state + 1] * scale;
    }
    out[ABSOLUTE_POS] = F::cast_from(sum / total);
}
