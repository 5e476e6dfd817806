//! The kernel for 16-bit rows on tensor cores, after FlashAttention-2 (arXiv 2307.08691).
//!
//! A plane takes 16 lines and keeps their queries, sums and softmax in registers: each lane holds those of
//! two lines, eight apart. The planes of a cube share tiles of K and V.

use cubecl::ir::FastMath;
use cubecl::prelude::*;

use super::load::{HIDDEN, Keys, Place, head_of_line};
use super::tiles::{Fragments, KEYS, LINES_PER_PLANE, PackedInput, Tiles, fill, new_tiles, wait};
use crate::kernel::gpu::fragments::{
    Fragment, Pair, lane_column, lane_row, load_right, load_right_transposed, multiply_add,
    new_sums, plane,
};

/// A lane's two lines: queries and the sums so far.
#[derive(CubeType)]
struct Lines<F: Float> {
    q: Sequence<Fragment<F>>,      // [head_dim / 16] of [4]
    sums: Sequence<Fragment<f32>>, // [head_dim / 8] of [2], of weighted values
    peaks: Array<f32>,             // [2], the largest score
    totals: Array<f32>,            // [2], of the lane's own weights
    from: Array<u32>,              // [2], the keys that a line sees
    to: Array<u32>,
}

/// The lane's first line in its cube; the other is eight below.
#[cube]
fn first_line() -> usize {
    plane() * LINES_PER_PLANE + lane_row()
}

/// Lines past the last one are zeros; their results are not written.
#[cube]
fn load_lines<F: Float>(
    input: &PackedInput<F>,
    place: &Place,
    #[comptime] tile: Fragments,
) -> Lines<F> {
    let m = input.visible.len() / 2;
    let mut from = Array::<u32>::new(2usize);
    let mut to = Array::<u32>::new(2usize);
    let mut peaks = Array::<f32>::new(2usize);
    let mut totals = Array::<f32>::new(2usize);
    #[unroll]
    for r in 0..2usize {
        let line = place.first_line + first_line() + r * 8;
        from[r] = 0u32;
        to[r] = 0u32;
        peaks[r] = f32::new(HIDDEN);
        totals[r] = 0.0;
        if line < place.n_lines {
            from[r] = u32::cast_from(input.visible[line / place.group]);
            to[r] = u32::cast_from(input.visible[m + line / place.group]);
        }
    }
    let sums = new_sums(comptime!(tile.head_dim / 8));
    let mut q = Sequence::<Fragment<F>>::new();
    #[unroll]
    for step in 0..comptime!(tile.head_dim / 16) {
        q.push(load_query(input, place, step, tile));
    }
    Lines::<F> {
        q,
        sums,
        peaks,
        totals,
        from,
        to,
    }
}

/// Dimensions `step * 16..` of both lines: `[4]`, line by line, then the eight dimensions after.
#[cube]
fn load_query<F: Float>(
    input: &PackedInput<F>,
    place: &Place,
    #[comptime] step: usize,
    #[comptime] tile: Fragments,
) -> Fragment<F> {
    let mut fragment = Array::<Pair<F>>::new(4usize);
    #[unroll]
    for r in 0..2usize {
        let line = first_line() + r * 8;
        #[unroll]
        for half in 0..2usize {
            let mut values = Pair::<F>::new(F::new(0.0));
            if place.first_line + line < place.n_lines {
                let head = head_of_line(place, line) * comptime!(tile.head_dim);
                values = input.q[(head + step * 16 + half * 8 + lane_column()) / 2];
            }
            fragment[half * 2 + r] = values;
        }
    }
    fragment
}

/// Scores of the plane's lines and a tile's keys, not scaled: `[KEYS / 8]` of `[2]`.
#[cube]
fn scores<F: Float>(
    lines: &Lines<F>,
    tiles: &Tiles<F>,
    slot: usize,
    #[comptime] tile: Fragments,
) -> Sequence<Fragment<f32>> {
    let mut scores = new_sums(comptime!(KEYS / 8));
    #[unroll]
    for step in 0..comptime!(tile.head_dim / 16) {
        #[unroll]
        for pair in 0..comptime!(KEYS / 16) {
            let stride = comptime!(tile.row_octets());
            let mut keys = Sequence::<Fragment<F>>::new();
            load_right_transposed(
                &mut keys,
                &tiles.k,
                slot * KEYS + pair * 16,
                step * 2,
                stride,
            );
            #[unroll]
            for i in 0..2usize {
                let sums = scores.index_mut(pair * 2 + i);
                multiply_add(lines.q.index(step), keys.index(i), sums);
            }
        }
    }
    scores
}

/// Sets the scores of keys that a line may not see to `HIDDEN`.
#[cube]
fn mask<F: Float>(scores: &mut Sequence<Fragment<f32>>, lines: &Lines<F>, start: usize) {
    #[unroll]
    for n in 0..comptime!(KEYS / 8) {
        let eight = scores.index_mut(n);
        #[unroll]
        for r in 0..2usize {
            let mut pair = eight[r];
            #[unroll]
            for i in 0..2usize {
                let key = (start + n * 8 + lane_column() + i) as u32;
                if key < lines.from[r] || key >= lines.to[r] {
                    pair[i] = f32::new(HIDDEN);
                }
            }
            eight[r] = pair;
        }
    }
}

/// The largest of a line's scores, over the four lanes that hold them.
#[cube]
fn peak_of(scores: &Sequence<Fragment<f32>>, #[comptime] r: usize) -> f32 {
    let mut peak = f32::new(HIDDEN);
    #[unroll]
    for n in 0..comptime!(KEYS / 8) {
        let pair = scores.index(n)[r];
        peak = max(peak, max(pair[0], pair[1]));
    }
    peak = max(peak, plane_shuffle_xor(peak, 1u32));
    max(peak, plane_shuffle_xor(peak, 2u32))
}

/// `exp(x)` in the device's hardware approximation, whose error is far below the rounding of a 16-bit value. The
/// flags let CubeCL choose it; on CUDA, NaN stays NaN.
#[cube(fast_math = FastMath::ReducedPrecision | FastMath::NotNaN | FastMath::NotInf)]
fn fast_exp(x: f32) -> f32 {
    x.exp()
}

/// Scores become weights under the new peaks, and sums under the old peaks are scaled. Peaks are
/// of unscaled scores; weights are of scores divided by the square root of the head's width.
#[cube]
fn weigh<F: Float>(
    scores: &mut Sequence<Fragment<f32>>,
    lines: &mut Lines<F>,
    #[comptime] tile: Fragments,
) {
    let scale = comptime!(1.0 / (tile.head_dim as f32).sqrt());
    #[unroll]
    for r in 0..2usize {
        let peak = max(lines.peaks[r], peak_of(scores, r));
        let shrink = fast_exp((lines.peaks[r] - peak) * scale);
        lines.peaks[r] = peak;
        lines.totals[r] *= shrink;
        #[unroll]
        for n in 0..comptime!(tile.head_dim / 8) {
            lines.sums.index_mut(n)[r] *= Pair::<f32>::new(shrink);
        }
        // If a line has seen no key yet, all its scores are HIDDEN and count for nothing.
        let scaled_peak = select(peak == f32::new(HIDDEN), 0.0, peak * scale);
        #[unroll]
        for n in 0..comptime!(KEYS / 8) {
            let mut pair = scores.index(n)[r];
            #[unroll]
            for i in 0..2usize {
                pair[i] = fast_exp(pair[i] * scale - scaled_peak);
                lines.totals[r] += pair[i];
            }
            scores.index_mut(n)[r] = pair;
        }
    }
}

/// Adds the weighted values of a tile.
#[cube]
fn accumulate<F: Float>(
    weights: &Sequence<Fragment<f32>>,
    tiles: &Tiles<F>,
    slot: usize,
    lines: &mut Lines<F>,
    #[comptime] tile: Fragments,
) {
    #[unroll]
    for step in 0..comptime!(KEYS / 16) {
        // The columns of two products are the rows of the next one's left side.
        let mut fragment = Array::<Pair<F>>::new(4usize);
        #[unroll]
        for half in 0..2usize {
            let eight = weights.index(step * 2 + half);
            fragment[half * 2] = Vector::cast_from(eight[0]);
            fragment[half * 2 + 1] = Vector::cast_from(eight[1]);
        }
        #[unroll]
        for pair in 0..comptime!(tile.head_dim / 16) {
            let stride = comptime!(tile.row_octets());
            let mut values = Sequence::<Fragment<F>>::new();
            load_right(
                &mut values,
                &tiles.v,
                slot * KEYS + step * 16,
                pair * 2,
                stride,
            );
            #[unroll]
            for i in 0..2usize {
                let sums = lines.sums.index_mut(pair * 2 + i);
                multiply_add(&fragment, values.index(i), sums);
            }
        }
    }
}

/// Attends to `keys`, and adds up the totals of each line's four lanes.
#[cube]
fn walk<F: Float>(
    input: &PackedInput<F>,
    place: &Place,
    lines: &mut Lines<F>,
    keys: &Keys,
    all_see: &Keys,
    #[comptime] tile: Fragments,
) {
    let mut tiles = new_tiles::<F>(tile);
    fill(input, place, &mut tiles, 0, keys.begin, keys.end, tile);
    let mut start = keys.begin;
    let mut index = 0;
    while start < keys.end {
        let slot = index % 2;
        wait(&tiles, slot, index / 2);
        sync_cube(); // no unit needs the previous tiles any more
        fill(
            input,
            place,
            &mut tiles,
            1 - slot,
            start + KEYS,
            keys.end,
            tile,
        );
        let mut scores = scores(lines, &tiles, slot, tile);
        // A part ends with a tile, so the zeros after its keys come after all that any line sees.
        if start < all_see.begin || start + KEYS > all_see.end {
            mask(&mut scores, lines, start);
        }
        weigh(&mut scores, lines, tile);
        accumulate(&scores, &tiles, slot, lines, tile);
        start += KEYS;
        index += 1;
    }
    #[unroll]
    for r in 0..2usize {
        lines.totals[r] += plane_shuffle_xor(lines.totals[r], 1u32);
        lines.totals[r] += plane_shuffle_xor(lines.totals[r], 2u32);
    }
}

#[cube]
fn place_of_cube<F: Float>(input: &PackedInput<F>, #[comptime] tile: Fragments) -> Place {
    let kv_heads = input.kv_heads;
    let group = input.heads / kv_heads;
    let n_lines = input.visible.len() / 2 * group;
    let last_cube = n_lines.div_ceil(comptime!(tile.lines())) - 1;
    Place {
        n_lines,
        // The last lines see most keys. They go first, so that no cube runs alone at the end.
        first_line: (last_cube - CUBE_POS_X as usize) * comptime!(tile.lines()),
        kv_head: CUBE_POS_Y as usize,
        kv_heads,
        group,
    }
}

/// The first and the last row of the cube's lines.
#[cube]
fn rows_of_cube(place: &Place, #[comptime] tile: Fragments) -> (usize, usize) {
    let end = min(place.first_line + comptime!(tile.lines()), place.n_lines);
    (place.first_line / place.group, (end - 1) / place.group)
}

/// The keys that any of the cube's lines sees; starts and ends ascend with the lines.
#[cube]
fn keys_of_cube<F: Float>(
    input: &PackedInput<F>,
    place: &Place,
    #[comptime] tile: Fragments,
) -> Keys {
    let (first, last) = rows_of_cube(place, tile);
    let m = input.visible.len() / 2;
    Keys {
        begin: input.visible[first] as usize,
        end: input.visible[m + last] as usize,
    }
}

/// The keys that all of the cube's lines see, ignoring lines past the last one.
#[cube]
fn keys_of_all<F: Float>(
    input: &PackedInput<F>,
    place: &Place,
    #[comptime] tile: Fragments,
) -> Keys {
    let (first, last) = rows_of_cube(place, tile);
    let m = input.visible.len() / 2;
    Keys {
        begin: input.visible[last] as usize,
        end: input.visible[m + first] as usize,
    }
}

#[cube(launch)]
pub(super) fn attend_kernel<F: Float>(
    input: &PackedInput<F>,
    out: &mut Array<Pair<F>>, // [m, heads * head_dim / 2]
    #[comptime] tile: Fragments,
    #[define(F)] _dtype: StorageType,
) {
    let place = place_of_cube(input, tile);
    let keys = keys_of_cube(input, &place, tile);
    let all_see = keys_of_all(input, &place, tile);
    let mut lines = load_lines(input, &place, tile);
    walk(input, &place, &mut lines, &keys, &all_see, tile);
    #[unroll]
    for r in 0..2usize {
        let line = first_line() + r * 8;
        if place.first_line + line < place.n_lines {
            let head = head_of_line(&place, line) * comptime!(tile.head_dim);
            let share = Pair::<f32>::new(1.0 / lines.totals[r]);
            #[unroll]
            for n in 0..comptime!(tile.head_dim / 8) {
                let values = lines.sums.index(n)[r] * share;
                out[(head + n * 8 + lane_column()) / 2] = Vector::cast_from(values);
            }
        }
    }
}

/// Part `CUBE_POS_Z` of the keys: sums, and peak and total for each of them.
#[cube(launch)]
pub(super) fn attend_part_kernel<F: Float>(
    input: &PackedInput<F>,
    sums: &mut Array<Pair<f32>>, // [parts, m * heads, head_dim / 2]
    states: &mut Array<f32>,     // [parts, m * heads, 2]
    part: usize,
    #[comptime] tile: Fragments,
    #[define(F)] _dtype: StorageType,
) {
    let place = place_of_cube(input, tile);
    let whole = keys_of_cube(input, &place, tile);
    let begin = input.visible[0] as usize + CUBE_POS_Z as usize * part;
    let keys = Keys {
        begin,
        end: min(begin + part, whole.end),
    };
    let all_see = keys_of_all(input, &place, tile);
    let mut lines = load_lines(input, &place, tile);
    walk(input, &place, &mut lines, &keys, &all_see, tile);
    let n_heads = place.n_lines * place.kv_heads; // of all rows
    #[unroll]
    for r in 0..2usize {
        let line = first_line() + r * 8;
        if place.first_line + line < place.n_lines {
            let head = CUBE_POS_Z as usize * n_heads + head_of_line(&place, line);
            #[unroll]
            for n in 0..comptime!(tile.head_dim / 8) {
                let at = head * comptime!(tile.head_dim) + n * 8 + lane_column();
                sums[at / 2] = lines.sums.index(n)[r];
            }
            if lane_column() == 0 {
                states[head * 2] = lines.peaks[r] * comptime!(1.0 / (tile.head_dim as f32).sqrt());
                states[head * 2 + 1] = lines.totals[r];
            }
        }
    }
}
