//! The tile of the kernel that runs on every device, and its layout in shared memory.

/// Units side by side: each takes every eighth key, and every eighth quad of dimensions.
pub(super) const LANES: usize = 8;
/// Lines of one unit.
pub(super) const LINES_PER_UNIT: usize = 2;

/// What is known when a kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LineTile {
    pub(super) lines: usize,
    pub(super) keys: usize,
    pub(super) head_dim: usize,
}

impl LineTile {
    /// The largest tile that fits; none for a head too wide for the device.
    pub(super) fn new(n_lines: usize, head_dim: usize, max_shared_bytes: usize) -> Option<Self> {
        let lines = [32, 16, 8];
        let most = lines.iter().rev().find(|&&lines| lines >= n_lines);
        let most = most.copied().unwrap_or(32);
        let sizes = lines
            .iter()
            .flat_map(|&l| [32, 16, 8].map(|keys| (l, keys)));
        let tiles = sizes.map(|(lines, keys)| Self {
            lines,
            keys,
            head_dim,
        });
        tiles
            .filter(|tile| tile.lines <= most)
            .find(|tile| tile.shared_bytes() <= max_shared_bytes)
    }

    pub(super) fn shared_bytes(&self) -> usize {
        let quads = self.q_quads() + self.kv_quads();
        let words = self.weight_words() + self.lines * (LANES + 2);
        quads * size_of::<[f32; 4]>() + words * size_of::<f32>()
    }

    /// A head in vectors of four dimensions, the last one filled up with zeros.
    pub(super) fn head_quads(&self) -> usize {
        self.head_dim.div_ceil(4)
    }

    pub(super) fn q_quads(&self) -> usize {
        self.lines * self.head_quads()
    }

    /// One more per key keeps the lanes on different banks; the last lanes may read past a key.
    pub(super) fn kv_quads(&self) -> usize {
        self.keys * (self.head_quads() + 1) + LANES
    }

    pub(super) fn weight_words(&self) -> usize {
        self.lines * (self.keys + 1)
    }

    pub(super) fn units(&self) -> usize {
        self.lines / LINES_PER_UNIT * LANES
    }

    /// Keys of a lane in a tile.
    pub(super) fn lane_keys(&self) -> usize {
        self.keys / LANES
    }

    /// Quads of a lane. The last ones are unused if the quads of a head are not a multiple of eight.
    pub(super) fn lane_quads(&self) -> usize {
        self.head_quads().div_ceil(LANES)
    }
}
