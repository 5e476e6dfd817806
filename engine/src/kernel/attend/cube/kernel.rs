//! The kernels themselves. A unit has two lines, one lane of the keys of a tile, and one lane of the
//! dimensions of the result, which go in fours: shared memory gives four words as fast as one.

use cubecl::prelude::*;

use super::{HIDDEN, LANES, LINES_PER_UNIT, Tile};

/// Four dimensions of a head.
type Quad = Vector<f32, Const<4>>;

#[derive(CubeType, CubeLaunch)]
pub(super) struct Input<F: Float> {
    q: Tensor<F>,         // [m, heads, head_dim]
    k: Tensor<F>,         // [n, kv_heads, head_dim]
    v: Tensor<F>,         // [n, kv_heads, head_dim]
    visible: Tensor<i32>, // [2, m]: starts, then ends
}

/// Where a cube works.
#[derive(CubeType)]
struct Place {
    /// Lines of all cubes: rows times query heads of a KV head.
    n_lines: usize,
    first_line: usize,
    kv_head: usize,
    kv_heads: usize,
    /// Query heads of a KV head.
    group: usize,
}

#[cube]
fn place_of_cube<F: Float>(input: &Input<F>, #[comptime] tile: Tile) -> Place {
    let kv_heads = input.k.shape(1);
    let group = input.q.shape(1) / kv_heads;
    Place {
        n_lines: input.q.shape(0) * group,
        first_line: CUBE_POS_X as usize * comptime!(tile.lines),
        kv_head: CUBE_POS_Y as usize,
        kv_heads,
        group,
    }
}

/// The row and query head of a line of the cube, as one index into `[m, heads]`.
#[cube]
fn head_of_line(place: &Place, line: usize) -> usize {
    let line = place.first_line + line;
    let row = line / place.group;
    (row * place.kv_heads + place.kv_head) * place.group + line % place.group
}

/// Keys a cube walks over.
#[derive(CubeType)]
struct Keys {
    begin: usize,
    end: usize,
}

/// What the units of a cube share.
#[derive(CubeType)]
struct Shared {
    q: SharedMemory<Quad>,      // [lines, head_quads], scaled
    kv: SharedMemory<Quad>,     // [keys, head_quads + 1]: K, then V of the same keys
    weights: SharedMemory<f32>, // [lines, keys + 1]
    partial: SharedMemory<f32>, // [lines, LANES]
    from: SharedMemory<u32>,    // [lines], the keys a line sees
    to: SharedMemory<u32>,
}

/// What a unit knows of its lines so far.
#[derive(CubeType)]
struct Running {
    sums: Array<Quad>,  // [LINES_PER_UNIT, quads of a lane], of weighted values
    peaks: Array<f32>,  // [LINES_PER_UNIT], the largest score
    totals: Array<f32>, // [LINES_PER_UNIT], of the lane's own weights
}

#[cube]
fn new_shared(#[comptime] tile: Tile) -> Shared {
    Shared {
        q: SharedMemory::<Quad>::new(comptime!(tile.q_quads())),
        kv: SharedMemory::<Quad>::new(comptime!(tile.kv_quads())),
        weights: SharedMemory::<f32>::new(comptime!(tile.weight_words())),
        partial: SharedMemory::<f32>::new(comptime!(tile.lines * LANES)),
        from: SharedMemory::<u32>::new(comptime!(tile.lines)),
        to: SharedMemory::<u32>::new(comptime!(tile.lines)),
    }
}

#[cube]
fn new_running(#[comptime] tile: Tile) -> Running {
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

/// Quad `quad` of the head that begins at `first`; zeros past its end.
#[cube]
fn load_quad<F: Float>(
    rows: &Tensor<F>,
    first: usize,
    quad: usize,
    scale: f32,
    #[comptime] tile: Tile,
) -> Quad {
    let mut values = Quad::new(0.0);
    #[unroll]
    for i in 0..4usize {
        let dim = quad * 4 + i;
        if dim < comptime!(tile.head_dim) {
            values[i] = f32::cast_from(rows[first + dim]) * scale;
        }
    }
    values
}

/// Lines past the last one are zeros that see nothing.
#[cube]
fn load_lines<F: Float>(
    input: &Input<F>,
    place: &Place,
    shared: &mut Shared,
    #[comptime] tile: Tile,
) {
    let unit = UNIT_POS as usize;
    let quads = comptime!(tile.head_quads());
    let scale = comptime!(1.0 / (tile.head_dim as f32).sqrt());
    for i in range_stepped(unit, comptime!(tile.q_quads()), comptime!(tile.units())) {
        let line = i / quads;
        let mut values = Quad::new(0.0);
        if place.first_line + line < place.n_lines {
            let first = head_of_line(place, line) * comptime!(tile.head_dim);
            values = load_quad(&input.q, first, i % quads, scale, tile);
        }
        shared.q[i] = values;
    }
    if unit < comptime!(tile.lines) {
        let m = input.q.shape(0);
        let line = place.first_line + unit;
        let mut from = 0u32;
        let mut to = 0u32;
        if line < place.n_lines {
            from = u32::cast_from(input.visible[line / place.group]);
            to = u32::cast_from(input.visible[m + line / place.group]);
        }
        shared.from[unit] = from;
        shared.to[unit] = to;
    }
}

/// Keys (or values) `start..` up to `end`; zeros after it.
#[cube]
fn load_keys<F: Float>(
    rows: &Tensor<F>,
    place: &Place,
    start: usize,
    end: usize,
    kv: &mut SharedMemory<Quad>,
    #[comptime] tile: Tile,
) {
    let quads = comptime!(tile.head_quads());
    let n = comptime!(tile.keys * tile.head_quads());
    for i in range_stepped(UNIT_POS as usize, n, comptime!(tile.units())) {
        let key = i / quads;
        let quad = i % quads;
        let mut values = Quad::new(0.0);
        if start + key < end {
            let head = (start + key) * place.kv_heads + place.kv_head;
            values = load_quad(rows, head * comptime!(tile.head_dim), quad, 1.0, tile);
        }
        kv[key * (quads + 1) + quad] = values;
    }
}

/// Scores of the unit's lines and keys, `[LINES_PER_UNIT, lane_keys]`; `HIDDEN` where a line may not
/// look.
#[cube]
fn scores(shared: &Shared, start: usize, #[comptime] tile: Tile) -> Array<f32> {
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
fn share_peaks(scores: &Array<f32>, partial: &mut SharedMemory<f32>, #[comptime] tile: Tile) {
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

/// Scores become weights under the new peaks, and what was summed under the old ones is scaled.
#[cube]
fn weigh(scores: &Array<f32>, shared: &mut Shared, running: &mut Running, #[comptime] tile: Tile) {
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
            // Not `score > HIDDEN`: a score that is not a number has to show.
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
fn accumulate(shared: &Shared, running: &mut Running, #[comptime] tile: Tile) {
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
fn walk<F: Float>(
    input: &Input<F>,
    place: &Place,
    shared: &mut Shared,
    running: &mut Running,
    keys: &Keys,
    #[comptime] tile: Tile,
) {
    let end = keys.end;
    let mut start = keys.begin;
    while start < end {
        load_keys(&input.k, place, start, end, &mut shared.kv, tile);
        sync_cube();
        let scores = scores(shared, start, tile);
        share_peaks(&scores, &mut shared.partial, tile);
        sync_cube(); // nobody needs K any more
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
fn whole_totals(shared: &mut Shared, running: &mut Running) {
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

/// The last key that the cube's last line sees; lines see keys in ascending order.
#[cube]
fn last_key(shared: &Shared, place: &Place, #[comptime] tile: Tile) -> usize {
    let lines = min(comptime!(tile.lines), place.n_lines - place.first_line);
    shared.to[lines - 1] as usize
}

/// Writes what the lane summed for its line `r` to the head that begins at `first`.
#[cube]
fn write_sums<F: Float>(
    running: &Running,
    #[comptime] r: usize,
    scale: f32,
    out: &mut Tensor<F>,
    first: usize,
    #[comptime] tile: Tile,
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
    out: &mut Tensor<F>,
    #[comptime] tile: Tile,
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
    sums: &mut Tensor<f32>,
    states: &mut Tensor<f32>,
    part: usize,
    #[comptime] tile: Tile,
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
    let n_heads = sums.shape(1); // of all rows
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

/// One unit per element of the result, over the parts of `[parts, m * heads, head_dim]`.
#[cube(launch)]
pub(super) fn merge_kernel<F: Float>(
    sums: &Tensor<f32>,
    states: &Tensor<f32>,
    out: &mut Tensor<F>,
    #[define(F)] _dtype: StorageType,
) {
    let (parts, n_heads, head_dim) = (sums.shape(0), sums.shape(1), sums.shape(2));
    if ABSOLUTE_POS >= n_heads * head_dim {
        terminate!();
    }
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
        sum += sums[part * n_heads * head_dim + ABSOLUTE_POS] * scale;
        total += states[state + 1] * scale;
    }
    out[ABSOLUTE_POS] = F::cast_from(sum / total);
}
