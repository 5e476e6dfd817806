//! The CubeCL kernels of attention, after FlashAttention (arXiv 2205.14135): no score leaves its cube.
//!
//! A cube takes a tile of lines, a line being one query head of one row; all lines of a cube read the
//! same KV head, so K and V of a group of heads are loaded once. It walks over tiles of the keys between
//! the first and the last one that its lines see, and keeps the softmax running in f32. If there are too few
//! lines to fill the device, as in decoding, the keys are split over cubes too (Flash-Decoding) and a
//! second kernel merges the parts.
//!
//! `kernel`, with `walk`, runs on every device; `tensor_cores`, with `tiles`, is for 16-bit rows on
//! devices that multiply fragments of them, and `hopper` for many of those on a Hopper.

mod hopper;
mod kernel;
mod load;
mod tensor_cores;
mod tile;
mod tiles;
mod visible;
mod walk;

use std::ops::Range;

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use self::hopper::{Cut, Warpgroups};
use self::kernel::{attend_kernel, attend_part_kernel, merge_kernel};
use self::load::InputLaunch;
use self::tile::LineTile;
use self::tiles::{Fragments, PackedInputLaunch};
use self::visible::ranges;
use super::launch::{array, empty, per_element, processors};

/// Cubes per multiprocessor that keep it busy.
const CUBES_PER_PROCESSOR: usize = 4;
/// The fewest keys of a part: with fewer, merging would cost more than it gains.
const MIN_KEYS_PER_PART: usize = 128;

/// Which kernel is used, and how it divides the work.
#[derive(Debug, Clone, Copy)]
enum Kernel {
    Units(LineTile),
    TensorCores(Fragments),
    Warpgroups(Warpgroups),
}

impl Kernel {
    /// `None` if no kernel fits the device.
    fn choose<R: CubeRuntime>(q: &CubeTensor<R>, n_lines: usize) -> Option<Self> {
        let head_dim = q.meta.shape()[2];
        let most = q.client.properties().hardware.max_shared_memory_size;
        if let Some(warpgroups) = Warpgroups::new(q, n_lines) {
            return Some(Self::Warpgroups(warpgroups));
        }
        let fragments = Fragments::new(n_lines, head_dim);
        if fragments.shared_bytes() <= most && fragments.fit(q) {
            return Some(Self::TensorCores(fragments));
        }
        LineTile::new(n_lines, head_dim, most).map(Self::Units)
    }

    /// Lines of a cube.
    fn lines(&self) -> usize {
        match self {
            Self::Units(tile) => tile.lines,
            Self::TensorCores(fragments) => fragments.lines(),
            Self::Warpgroups(warpgroups) => warpgroups.lines(),
        }
    }

    /// Cubes that keep the device busy.
    fn wanted(&self, processors: usize) -> usize {
        match self {
            Self::Units(_) | Self::TensorCores(_) => processors * CUBES_PER_PROCESSOR,
            // One per processor at a time, and half as many again to balance cubes that see few keys.
            Self::Warpgroups(_) => processors * 3 / 2,
        }
    }

    /// Keys of a tile.
    fn keys(&self) -> usize {
        match self {
            Self::Units(tile) => tile.keys,
            Self::TensorCores(_) => tiles::KEYS,
            Self::Warpgroups(_) => hopper::KEYS,
        }
    }
}

/// One launch: the sizes and how the work is split.
pub(super) struct Attention<'a> {
    visible: &'a [Range<usize>],
    kernel: Kernel,
    head_dim: usize,
    /// Cubes of lines, KV heads, parts of the keys.
    cubes: [usize; 3],
    /// Keys of a part.
    part: usize,
}

impl<'a> Attention<'a> {
    /// `None` if the kernels do not fit the device or the types differ.
    pub(super) fn new<R: CubeRuntime>(
        q: &CubeTensor<R>,
        k: &CubeTensor<R>,
        visible: &'a [Range<usize>],
    ) -> Option<Self> {
        let (heads, head_dim) = (q.meta.shape()[1], q.meta.shape()[2]);
        let kv_heads = k.meta.shape()[1];
        let n_lines = visible.len() * (heads / kv_heads);
        if q.dtype != k.dtype || visible.is_empty() {
            return None;
        }
        let kernel = Kernel::choose(q, n_lines)?;
        let n_cubes = n_lines.div_ceil(kernel.lines()) * kv_heads;
        let wanted = kernel.wanted(processors(&q.client));
        let keys = visible[visible.len() - 1].end - visible[0].start;
        let parts = (wanted / n_cubes).min(keys / MIN_KEYS_PER_PART).max(1);
        let part = keys.div_ceil(parts).next_multiple_of(kernel.keys());
        let lines = n_lines.div_ceil(kernel.lines());
        Some(Self {
            visible,
            kernel,
            head_dim,
            cubes: [lines, kv_heads, keys.div_ceil(part)],
            part,
        })
    }

    /// `[m, heads, head_dim]` over `[n, kv_heads, head_dim]` to `[m, heads * head_dim]`.
    pub(super) fn launch<R: CubeRuntime>(
        self,
        q: CubeTensor<R>,
        k: CubeTensor<R>,
        v: CubeTensor<R>,
    ) -> CubeTensor<R> {
        let width = q.meta.shape()[1] * self.head_dim;
        let out = empty(&q, [self.visible.len(), width], q.dtype);
        let visible = ranges(self.visible, &q);
        match self.cubes[2] {
            1 => self.attend_whole([q, k, v], visible, out),
            _ => self.merge(self.attend_parts([q, k, v], visible), out),
        }
    }

    fn cubes(&self, units: usize) -> (CubeCount, CubeDim) {
        let [x, y, z] = self.cubes.map(|n| n as u32);
        (CubeCount::Static(x, y, z), CubeDim::new_1d(units as u32))
    }

    fn cut(&self) -> Cut {
        Cut {
            cubes: self.cubes,
            part: self.part,
            end: self.visible[self.visible.len() - 1].end,
        }
    }

    fn attend_whole<R: CubeRuntime>(
        &self,
        input: [CubeTensor<R>; 3],
        visible: CubeTensor<R>,
        out: CubeTensor<R>,
    ) -> CubeTensor<R> {
        let (client, dtype) = (out.client.clone(), out.dtype.into());
        let result = array(out.clone());
        match self.kernel {
            Kernel::Units(tile) => {
                let (count, dim) = self.cubes(tile.units());
                let input = arguments(input, visible);
                attend_kernel::launch::<R>(&client, count, dim, input, result, tile, dtype);
            }
            Kernel::TensorCores(fragments) => {
                let (count, dim) = self.cubes(fragments.units());
                let input = packed_arguments(input, visible);
                tensor_cores::attend_kernel::launch::<R>(
                    &client, count, dim, input, result, fragments, dtype,
                );
            }
            Kernel::Warpgroups(warpgroups) => {
                warpgroups.launch(self.cut(), input, visible, vec![out.clone()]);
            }
        }
        out
    }

    /// Sums `[parts, m * heads, head_dim]`, and a peak and a total for each: `[parts, m * heads, 2]`.
    fn attend_parts<R: CubeRuntime>(
        &self,
        input: [CubeTensor<R>; 3],
        visible: CubeTensor<R>,
    ) -> [CubeTensor<R>; 2] {
        let [q, ..] = &input;
        let (client, dtype) = (q.client.clone(), q.dtype.into());
        let (parts, heads) = (self.cubes[2], self.visible.len() * q.meta.shape()[1]);
        let sums = empty(q, [parts, heads, self.head_dim], DType::F32);
        let states = empty(q, [parts, heads, 2], DType::F32);
        let [to_sums, to_states] = [&sums, &states].map(|to| array(to.clone()));
        let part = self.part;
        match self.kernel {
            Kernel::Units(tile) => {
                let (count, dim) = self.cubes(tile.units());
                let input = arguments(input, visible);
                attend_part_kernel::launch::<R>(
                    &client, count, dim, input, to_sums, to_states, part, tile, dtype,
                );
            }
            Kernel::TensorCores(fragments) => {
                let (count, dim) = self.cubes(fragments.units());
                let input = packed_arguments(input, visible);
                tensor_cores::attend_part_kernel::launch::<R>(
                    &client, count, dim, input, to_sums, to_states, part, fragments, dtype,
                );
            }
            Kernel::Warpgroups(warpgroups) => {
                let outputs = vec![sums.clone(), states.clone()];
                warpgroups.launch(self.cut(), input, visible, outputs);
            }
        }
        [sums, states]
    }

    /// Merges the parts of each head into `out`, under one peak.
    fn merge<R: CubeRuntime>(
        &self,
        [sums, states]: [CubeTensor<R>; 2],
        out: CubeTensor<R>,
    ) -> CubeTensor<R> {
        let (client, dtype) = (out.client.clone(), out.dtype.into());
        let (count, dim) = per_element(&client, out.meta.shape().num_elements());
        let [sums, states, result] = [sums, states, out.clone()].map(array);
        merge_kernel::launch::<R>(
            &client,
            count,
            dim,
            sums,
            states,
            result,
            self.head_dim,
            dtype,
        );
        out
    }
}

/// Compiles the kernels whose choice depends on the number of rows and keys.
pub(super) fn compile_all<R: CubeRuntime>(device: &R::Device, dtype: DType, head_dim: usize) {
    Warpgroups::compile::<R>(device, dtype, head_dim);
}

fn arguments<F: Float, R: CubeRuntime>(
    [q, k, v]: [CubeTensor<R>; 3],
    visible: CubeTensor<R>,
) -> InputLaunch<F, R> {
    let (heads, kv_heads) = (q.meta.shape()[1], k.meta.shape()[1]);
    let [q, k, v, visible] = [q, k, v, visible].map(array);
    InputLaunch::new(q, k, v, visible, heads, kv_heads)
}

fn packed_arguments<F: Float, R: CubeRuntime>(
    [q, k, v]: [CubeTensor<R>; 3],
    visible: CubeTensor<R>,
) -> PackedInputLaunch<F, R> {
    let (heads, kv_heads) = (q.meta.shape()[1], k.meta.shape()[1]);
    let [q, k, v, visible] = [q, k, v, visible].map(array);
    PackedInputLaunch::new(q, k, v, visible, heads, kv_heads)
}
