//! The walk over the keys. A unit has two lines, one lane of the keys of a tile, and one lane of the
//! dimensions of the result.

use cubecl::prelude::*;

use super::load::{HIDDEN, Input, Keys, Place, Quad, Shared, load_keys};
use super::tile::{LANES, LINES_PER_UNIT, LineTile};

/// A unit's running results for its lines.
#[derive(CubeType)]
pub(super) struct Running {
    pub(super) sums: Array<Quad>, // [LINES_PER_UNIT, quads of a lane], of weighted values
    pub(super) peaks: Array<f32>, // [LINES_PER_UNIT], the largest score
    pub(super) totals: Array<f32>, // [LINES_PER_UNIT], of the lane's own weights
}

#[cube]
pub(super) fn new_running(#[comptime] tile: LineTile) -> Running {
    let mut sums = Array::<Quad>::new(comptime!(LINES_PER_UNIT * tile.lane_quads()));
    let mut peaks = Array::<f32>::new(comptime!(LINES_PER_UNIT));
    let mut totals = Array::<f32>::new(comptime!(LINES_PER_UNIT));
    #[unroll]
    for i in 0..comptime!(LINES_PER_UNIT * tile.lane_quads()) {
        sums[i] = Quad::new(0.0);
    }
    #[unroll]
    for r in 0..LINES_PER_UNIT {
        peaks[r] = f32::new(HIDDEN);
        totals[r] = 0.0;
    }
    Running {
        sums,
        peaks,
        totals,
    }
}

/// Scores of the unit's lines and keys, `[LINES_PER_UNIT, lane_keys]`; `HIDDEN` for keys that a line
/// may not see.
#[cube]
fn scores(shared: &Shared, start: usize, #[comptime] tile: LineTile) -> Array<f32> {
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let first_line = unit / LANES * LINES_PER_UNIT;
    let quads = comptime!(tile.head_quads());
    let lane_keys = comptime!(tile.lane_keys());
    let mut products = Array::<Quad>::new(comptime!(LINES_PER_UNIT * tile.lane_keys()));
    #[unroll]
    for i in 0..comptime!(LINES_PER_UNIT * tile.lane_keys()) {
        products[i] = Quad::new(0.0);
    }
    for quad in 0..quads {
        #[unroll]
        for j in 0..lane_keys {
            let k = shared.kv[(lane + j * LANES) * (quads + 1) + quad];
            #[unroll]
            for r in 0..LINES_PER_UNIT {
                products[r * lane_keys + j] += shared.q[(first_line + r) * quads + quad] * k;
            }
        }
    }
    let mut scores = Array::<f32>::new(comptime!(LINES_PER_UNIT * tile.lane_keys()));
    #[unroll]
    for r in 0..LINES_PER_UNIT {
        let from = shared.from[first_line + r] as usize;
        let to = shared.to[first_line + r] as usize;
        #[unroll]
        for j in 0..lane_keys {
            let key = start + lane + j * LANES;
            let sums = products[r * lane_keys + j];
            let mut score = sums[0] + sums[1] + sums[2] + sums[3];
            if key < from || key >= to {
                score = f32::new(HIDDEN);
            }
            scores[r * lane_keys + j] = score;
        }
    }
    scores
}

/// The lanes' largest scores, for all units to see.
#[cube]
fn share_peaks(scores: &Array<f32>, partial: &mut SharedMemory<f32>, #[comptime] tile: LineTile) {
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let first_line = unit / LANES * LINES_PER_UNIT;
    let lane_keys = comptime!(tile.lane_keys());
    #[unroll]
    for r in 0..LINES_PER_UNIT {
        let mut peak = f32::new(HIDDEN);
        #[unroll]
        for j in 0..lane_keys {
            peak = max(peak, scores[r * lane_keys + j]);
        }
        partial[(first_line + r) * LANES + lane] = peak;
    }
}

/// Scores become weights under the new peaks, and sums under the old peaks are scaled.
#[cube]
fn weigh(
    scores: &Array<f32>,
    shared: &mut Shared,
    running: &mut Running,
    #[comptime] tile: LineTile,
) {
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let first_line = unit / LANES * LINES_PER_UNIT;
    let lane_keys = comptime!(tile.lane_keys());
    let lane_quads = comptime!(tile.lane_quads());
    #[unroll]
    for r in 0..LINES_PER_UNIT {
        let line = first_line + r;
        let mut peak = running.peaks[r];
        #[unroll]
        for other in 0..LANES {
            peak = max(peak, shared.partial[line * LANES + other]);
        }
        let shrink = (running.peaks[r] - peak).exp();
        running.peaks[r] = peak;
        running.totals[r] *= shrink;
        #[unroll]
        for j in 0..lane_quads {
            running.sums[r * lane_quads + j] *= Quad::new(shrink);
        }
        #[unroll]
        for j in 0..lane_keys {
            let score = scores[r * lane_keys + j];
            let mut weight = 0.0f32;
            // Not `score > HIDDEN`: a NaN score must not be hidden.
            if score != f32::new(HIDDEN) {
                weight = (score - peak).exp();
            }
            running.totals[r] += weight;
            shared.weights[line * comptime!(tile.keys + 1) + lane + j * LANES] = weight;
        }
    }
}

/// Adds the weighted values of a tile.
#[cube]
fn accumulate(shared: &Shared, running: &mut Running, #[comptime] tile: LineTile) {
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let first_line = unit / LANES * LINES_PER_UNIT;
    let row = comptime!(tile.head_quads() + 1);
    let lane_quads = comptime!(tile.lane_quads());
    for key in 0..comptime!(tile.keys) {
        #[unroll]
        for r in 0..LINES_PER_UNIT {
            let weight = shared.weights[(first_line + r) * comptime!(tile.keys + 1) + key];
            #[unroll]
            for j in 0..lane_quads {
                let values = shared.kv[key * row + lane + j * LANES];
                running.sums[r * lane_quads + j] += values * Quad::new(weight);
            }
        }
    }
}

/// Attends to `keys` as far as the cube's lines see them.
#[cube]
pub(super) fn walk<F: Float>(
    input: &Input<F>,
    place: &Place,
    shared: &mut Shared,
    running: &mut Running,
    keys: &Keys,
    #[comptime] tile: LineTile,
) {
    let end = keys.end;
    let mut start = keys.begin;
    while start < end {
        load_keys(&input.k, place, start, end, &mut shared.kv, tile);
        sync_cube();
        let scores = scores(shared, start, tile);
        share_peaks(&scores, &mut shared.partial, tile);
        sync_cube(); // no unit needs K any more
        weigh(&scores, shared, running, tile);
        load_keys(&input.v, place, start, end, &mut shared.kv, tile);
        sync_cube();
        accumulate(shared, running, tile);
        sync_cube(); // nor V
        start += comptime!(tile.keys);
    }
}

/// The sum of the lanes' totals, for each of the unit's lines.
#[cube]
pub(super) fn whole_totals(shared: &mut Shared, running: &mut Running) {
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let first_line = unit / LANES * LINES_PER_UNIT;
    #[unroll]
    for r in 0..LINES_PER_UNIT {
        shared.partial[(first_line + r) * LANES + lane] = running.totals[r];
    }
    sync_cube();
    #[unroll]
    for r in 0..LINES_PER_UNIT {
        let mut total = 0.0f32;
        #[unroll]
        for other in 0..LANES {
            total += shared.partial[(first_line + r) * LANES + other];
        }
        running.totals[r] = total;
    }
}
