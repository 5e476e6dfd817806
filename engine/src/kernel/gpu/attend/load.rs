//! Where a cube works, what its units share, and how rows are loaded. Dimensions are handled in fours, because
//! shared memory delivers four words as fast as one.

use cubecl::prelude::*;

use super::tile::{LANES, LineTile};

/// The score of a key that a line may not see. It is finite, so that subtracting it from itself gives 0.
pub(super) const HIDDEN: f32 = f32::MIN;

/// Four dimensions of a head.
pub(super) type Quad = Vector<f32, Const<4>>;

#[derive(CubeType, CubeLaunch)]
pub(super) struct Input<F: Float> {
    pub(super) q: Array<F>,         // [m, heads, head_dim]
    pub(super) k: Array<F>,         // [n, kv_heads, head_dim]
    pub(super) v: Array<F>,         // [n, kv_heads, head_dim]
    pub(super) visible: Array<i32>, // [2, m]: starts, then ends
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
}

/// Where a cube works.
#[derive(CubeType)]
pub(super) struct Place {
    /// Lines of all cubes: rows times query heads of a KV head.
    pub(super) n_lines: usize,
    pub(super) first_line: usize,
    pub(super) kv_head: usize,
    pub(super) kv_heads: usize,
    /// Query heads of a KV head.
    pub(super) group: usize,
}

#[cube]
pub(super) fn place_of_cube<F: Float>(input: &Input<F>, #[comptime] tile: LineTile) -> Place {
    let kv_heads = input.kv_heads;
    let group = input.heads / kv_heads;
    Place {
        n_lines: input.visible.len() / 2 * group,
        first_line: CUBE_POS_X as usize * comptime!(tile.lines),
        kv_head: CUBE_POS_Y as usize,
        kv_heads,
        group,
    }
}

/// The row and query head of a line of the cube, as one index into `[m, heads]`.
#[cube]
pub(super) fn head_of_line(place: &Place, line: usize) -> usize {
    let line = place.first_line + line;
    let row = line / place.group;
    (row * place.kv_heads + place.kv_head) * place.group + line % place.group
}

/// Keys a cube walks over.
#[derive(CubeType)]
pub(super) struct Keys {
    pub(super) begin: usize,
    pub(super) end: usize,
}

/// What the units of a cube share.
#[derive(CubeType)]
pub(super) struct Shared {
    pub(super) q: SharedMemory<Quad>,      // [lines, head_quads], scaled
    pub(super) kv: SharedMemory<Quad>,     // [keys, head_quads + 1]: K, then V of the same keys
    pub(super) weights: SharedMemory<f32>, // [lines, keys + 1]
    pub(super) partial: SharedMemory<f32>, // [lines, LANES]
    pub(super) from: SharedMemory<u32>,    // [lines], the keys a line sees
    pub(super) to: SharedMemory<u32>,
}

#[cube]
pub(super) fn new_shared(#[comptime] tile: LineTile) -> Shared {
    Shared {
        q: SharedMemory::<Quad>::new(comptime!(tile.q_quads())),
        kv: SharedMemory::<Quad>::new(comptime!(tile.kv_quads())),
        weights: SharedMemory::<f32>::new(comptime!(tile.weight_words())),
        partial: SharedMemory::<f32>::new(comptime!(tile.lines * LANES)),
        from: SharedMemory::<u32>::new(comptime!(tile.lines)),
        to: SharedMemory::<u32>::new(comptime!(tile.lines)),
    }
}

/// The last key that the cube's last line sees; lines see keys in ascending order.
#[cube]
pub(super) fn last_key(shared: &Shared, place: &Place, #[comptime] tile: LineTile) -> usize {
    let lines = min(comptime!(tile.lines), place.n_lines - place.first_line);
    shared.to[lines - 1] as usize
}

/// Quad `quad` of the head that begins at `first`; zeros past its end.
#[cube]
fn load_quad<F: Float>(
    rows: &Array<F>,
    first: usize,
    quad: usize,
    scale: f32,
    #[comptime] tile: LineTile,
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
pub(super) fn load_lines<F: Float>(
    input: &Input<F>,
    place: &Place,
    shared: &mut Shared,
    #[comptime] tile: LineTile,
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
        let m = input.visible.len() / 2;
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
pub(super) fn load_keys<F: Float>(
    rows: &Array<F>,
    place: &Place,
    start: usize,
    end: usize,
    kv: &mut SharedMemory<Quad>,
    #[comptime] tile: LineTile,
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
