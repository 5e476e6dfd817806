//! Attention of 16-bit rows on the warpgroups of Hopper (`gpu/hopper.rs`).

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::visible::ranges;
use crate::kernel::gpu::hopper::{
    self, GROUP_ROWS, Launch, Left, MARGIN_BYTES, Right, SPAN, Source, multiply, tensor_map,
};
use crate::kernel::gpu::launch::empty;

/// Warpgroups of a block that multiply.
const GROUPS: usize = 2;
/// Keys of a tile.
pub(super) const KEYS: usize = 128;
/// Tiles of K, and of V, in shared memory.
const STAGES: usize = 2;

/// What is known when the kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Warpgroups {
    head_dim: usize,
    dtype: DType,
    /// Whether a block takes a part of the keys.
    is_partial: bool,
}

/// One launch: how the work is cut.
pub(super) struct Cut {
    /// Blocks of lines, KV heads, parts of the keys.
    pub cubes: [usize; 3],
    /// Keys of a part.
    pub part: usize,
    /// The first key that no line sees.
    pub end: usize,
}

impl Warpgroups {
    /// `None` if the device, the type or the width of a head does not fit, or there are too few lines.
    pub(super) fn new<R: CubeRuntime>(q: &CubeTensor<R>, n_lines: usize) -> Option<Self> {
        let head_dim = q.meta.shape()[2];
        let fits = hopper::is_here(&q.client)
            && hopper::multiplies(q.dtype)
            && [SPAN, 2 * SPAN].contains(&head_dim)
            && n_lines > GROUP_ROWS;
        fits.then_some(Self {
            head_dim,
            dtype: q.dtype,
            is_partial: false,
        })
    }

    /// Compiles both kernels for heads of this width, if they fit the device and the type.
    pub(super) fn compile<R: CubeRuntime>(device: &R::Device, dtype: DType, head_dim: usize) {
        let (client, n_lines) = (R::client(device), GROUP_ROWS + 1);
        let shape = Shape::from([n_lines, 1, head_dim]);
        let q = empty_device_contiguous_dtype(client, device.clone(), shape, dtype);
        let Some(warpgroups) = Self::new(&q, n_lines) else {
            return;
        };
        let kv = empty(&q, [KEYS, 1, head_dim], dtype);
        let visible = ranges(&vec![0..1; n_lines], &q);
        let sums = empty(&q, [n_lines, 1, head_dim], DType::F32);
        let states = empty(&q, [n_lines, 1, 2], DType::F32);
        for outputs in [vec![q.clone()], vec![sums, states]] {
            let cut = Cut {
                cubes: [1, 1, 1],
                part: KEYS,
                end: 1,
            };
            let input = [q.clone(), kv.clone(), kv.clone()];
            warpgroups.launch(cut, input, visible.clone(), outputs);
        }
    }

    /// Lines of a block.
    pub(super) fn lines(&self) -> usize {
        GROUPS * GROUP_ROWS
    }

    /// Writes the result `[m, heads, head_dim]`, or sums and states of parts of the keys.
    pub(super) fn launch<R: CubeRuntime>(
        mut self,
        cut: Cut,
        [q, k, v]: [CubeTensor<R>; 3],
        visible: CubeTensor<R>,
        outputs: Vec<CubeTensor<R>>,
    ) {
        self.is_partial = outputs.len() > 1;
        let (client, kv_heads) = (q.client.clone(), k.meta.shape()[1]);
        let (m, group) = (q.meta.shape()[0], q.meta.shape()[1] / kv_heads);
        // Rows after the last key do not belong to this prompt.
        let rows = [cut.end, kv_heads * self.head_dim];
        let maps = [k, v].map(|rows_of| tensor_map(&rows_of, rows, KEYS));
        let mut buffers = vec![into_contiguous(q), visible];
        buffers.extend(outputs);
        let launch = Launch {
            cubes: cut.cubes,
            maps: maps.into(),
            buffers,
            sizes: [m, group, cut.part],
        };
        launch.run(&client, self);
    }
}

impl Source for Warpgroups {
    const NAME: &'static str = "hopper_attend";

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn groups(&self) -> usize {
        GROUPS
    }

    fn shared_bytes(&self) -> usize {
        2 * STAGES * KEYS * self.head_dim * self.dtype.size() + MARGIN_BYTES
    }

    fn defines(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("HEAD", self.head_dim),
            ("KEYS", KEYS),
            ("STAGES", STAGES),
            ("PARTIAL", self.is_partial.into()),
        ]
    }

    fn code(&self) -> String {
        let product =
            |name, columns, right| multiply(name, self.dtype, columns, Left::Registers, right);
        let keys = product("multiply_keys", KEYS, Right::Transposed);
        let values = product("multiply_values", self.head_dim, Right::AsItIs);
        keys + &values + include_str!("hopper/attend.cu")
    }
}
