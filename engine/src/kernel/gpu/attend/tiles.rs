//! What the planes of a cube share as they walk over the keys: tiles of K and V in shared memory. The next tile is
//! copied there while the current one is attended to.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::barrier::{Barrier, copy_async_checked};
use cubecl::prelude::*;

use super::load::Place;
use crate::kernel::gpu::fragments::{self, OCTET, Octet, PLANE_UNITS, Pair};

/// Lines of a plane.
pub(super) const LINES_PER_PLANE: usize = 16;
/// The most planes of a cube.
const MOST_PLANES: usize = 4;
/// Keys of a tile.
pub(super) const KEYS: usize = 64;

/// What is known when the kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fragments {
    pub(super) planes: usize,
    /// A multiple of 16.
    pub(super) head_dim: usize,
}

impl Fragments {
    /// One plane for few lines, else four.
    pub(super) fn new(n_lines: usize, head_dim: usize) -> Self {
        let planes = match n_lines {
            ..=LINES_PER_PLANE => 1,
            _ => MOST_PLANES,
        };
        Self { planes, head_dim }
    }

    /// Whether the device of `rows` multiplies fragments of them.
    pub(super) fn fit<R: CubeRuntime>(&self, rows: &CubeTensor<R>) -> bool {
        self.head_dim.is_multiple_of(16)
            && fragments::are_supported(&rows.client, rows.dtype.into())
    }

    pub(super) fn lines(&self) -> usize {
        self.planes * LINES_PER_PLANE
    }

    pub(super) fn units(&self) -> usize {
        self.planes * PLANE_UNITS
    }

    fn head_octets(&self) -> usize {
        self.head_dim / OCTET
    }

    /// One more keeps eight rows on different banks.
    pub(super) fn row_octets(&self) -> usize {
        self.head_octets() + 1
    }

    /// Octets of a tile of K, or of V.
    fn tile_octets(&self) -> usize {
        KEYS * self.row_octets()
    }

    pub(super) fn shared_bytes(&self) -> usize {
        2 * 2 * self.tile_octets() * 16
    }
}

#[derive(CubeType, CubeLaunch)]
pub(super) struct PackedInput<F: Float> {
    pub(super) q: Array<Pair<F>>,   // [m, heads, head_dim / 2]
    k: Array<Octet<F>>,             // [n, kv_heads, head_dim / 8]
    v: Array<Octet<F>>,             // [n, kv_heads, head_dim / 8]
    pub(super) visible: Array<i32>, // [2, m]: starts, then ends
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
}

/// Tiles of K and of V in shared memory: the one that is attended to, and the one that comes next.
#[derive(CubeType)]
pub(super) struct Tiles<F: Float> {
    pub(super) k: SharedMemory<Octet<F>>, // [2, KEYS, row_octets]
    pub(super) v: SharedMemory<Octet<F>>, // [2, KEYS, row_octets]
    full: Sequence<Shared<Barrier>>,      // [2]
}

#[cube]
pub(super) fn new_tiles<F: Float>(#[comptime] tile: Fragments) -> Tiles<F> {
    let mut full = Sequence::<Shared<Barrier>>::new();
    #[unroll]
    for _ in 0..2usize {
        full.push(Barrier::shared(CUBE_DIM, UNIT_POS == 0));
    }
    let octets = comptime!(2 * tile.tile_octets());
    let k = SharedMemory::<Octet<F>>::new_aligned(octets, 16usize);
    let v = SharedMemory::<Octet<F>>::new_aligned(octets, 16usize);
    Tiles::<F> { k, v, full }
}

/// Begins to copy rows `start..` up to `end` of K or V to octet `first` on; zeros after the last.
#[cube]
fn copy_rows<F: Float>(
    rows: &Array<Octet<F>>,
    place: &Place,
    start: usize,
    end: usize,
    shared: &mut SharedMemory<Octet<F>>,
    first: usize,
    #[comptime] tile: Fragments,
) {
    let octets = comptime!(tile.head_octets());
    #[unroll]
    for round in 0..comptime!((KEYS * tile.head_octets()).div_ceil(tile.units())) {
        let i = UNIT_POS as usize + round * comptime!(tile.units());
        let (key, octet) = (i / octets, i % octets);
        if key < KEYS {
            let there = start + key < end;
            let head = (start + key) * place.kv_heads + place.kv_head;
            let from = select(there, head * octets + octet, 0);
            let len = select(there, 1usize, 0usize);
            let to = first + key * comptime!(tile.row_octets()) + octet;
            copy_async_checked(
                &rows.slice(from, from + len),
                &mut shared.slice_mut(to, to + 1),
                8u32,
            );
        }
    }
}

/// Begins to fill the tiles of `slot` with the keys from `start` on, if there are any.
#[cube]
pub(super) fn fill<F: Float>(
    input: &PackedInput<F>,
    place: &Place,
    tiles: &mut Tiles<F>,
    slot: usize,
    start: usize,
    end: usize,
    #[comptime] tile: Fragments,
) {
    if start < end {
        let first = slot * comptime!(tile.tile_octets());
        copy_rows(&input.k, place, start, end, &mut tiles.k, first, tile);
        copy_rows(&input.v, place, start, end, &mut tiles.v, first, tile);
        #[unroll]
        for i in 0..2usize {
            if slot == i {
                let full = tiles.full.index(i);
                full.commit_copy_async();
                full.arrive();
            }
        }
    }
}

/// Waits for the tiles of `slot`, for the `round`th time.
#[cube]
pub(super) fn wait<F: Float>(tiles: &Tiles<F>, slot: usize, round: usize) {
    #[unroll]
    for i in 0..2usize {
        if slot == i {
            tiles.full.index(i).wait_parity(round as u32 % 2);
        }
    }
}
