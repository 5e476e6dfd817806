//! Puts a stored block of 8 bits into the KV buffers: widened, rotated and written in one pass.
//! Its layout is that of `kv/int8.rs`.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::server::Handle;

use super::keys_values::{KeysValues, keys_values, upload_sides, write_pair};
use super::launch::{array, on_device, per_element};
use super::rotate::{Turn, front_of_pair, turn};
use crate::kernel::backend::FusionBackend;
use crate::kernel::rotate::Rotation;
use crate::kv::{KvDtype, StoredBlock};

/// Values of a word.
const FOUR: usize = 4;

/// One side of a block in 8 bits: its scales, then values, four to a word. Both arrays are views of the whole side.
#[derive(CubeType, CubeLaunch)]
struct Int8Rows {
    scales: Array<f32>,
    values: Array<i32>,
    n_scales: usize,
}

type Four = Vector<f32, Const<4>>;

/// Four values without their scales.
#[cube]
fn four(rows: &Int8Rows, index: usize) -> Four {
    let word = rows.values[rows.n_scales + index];
    let mut values = Four::new(0.0);
    #[unroll]
    for i in 0..4usize {
        values[i] = f32::cast_from((word << comptime!(24 - 8 * i as i32)) >> 24);
    }
    values
}

/// Four values of K, whose scales go by channel.
#[cube]
fn four_of_k(rows: &Int8Rows, index: usize) -> Four {
    let mut scales = Four::new(0.0);
    let first = index * 4 % rows.n_scales;
    #[unroll]
    for i in 0..4usize {
        scales[i] = rows.scales[first + i];
    }
    four(rows, index) * scales
}

/// Four values of V, whose scales go by token and head.
#[cube]
fn four_of_v(rows: &Int8Rows, index: usize, head_fours: usize) -> Four {
    four(rows, index) * Four::new(rows.scales[index / head_fours])
}

/// One unit per pair of four-value groups of K that turn together, and for those of V in the same place.
#[cube(launch)]
fn place_int8_kernel<F: Float>(
    buffers: &mut KeysValues<F, Const<4>>, // [n_rows, heads, 2 * half]
    k: &Int8Rows,                          // [n, heads, 2 * half]
    v: &Int8Rows,
    turn: &Turn<Const<4>>,
    first: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= (k.values.len() - k.n_scales) / 2 {
        terminate!();
    }
    let front = front_of_pair(turn, ABSOLUTE_POS);
    let back = front + turn.half;
    let head = 2 * turn.half;
    let k = (four_of_k(k, front), four_of_k(k, back));
    let v = (four_of_v(v, front, head), four_of_v(v, back, head));
    write_pair(buffers, first + front, turn, k, v);
}

/// Whether the kernel takes the block: half a head is whole words.
pub(super) fn fits(block: &StoredBlock<'_>) -> bool {
    let [.., head_dim] = block.shape();
    block.dtype() == KvDtype::Int8 && head_dim.is_multiple_of(2 * FOUR)
}

/// [`FusionBackend::place_block`] of a block that [`fits`], into buffers of one owner.
pub(super) fn launch<R: CubeRuntime, B>(
    buffers: [CubeTensor<R>; 2],
    start: usize,
    block: &StoredBlock<'_>,
    rotation: &Rotation<B>,
) -> [CubeTensor<R>; 2]
where
    B: FusionBackend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let [n_rows, heads, head_dim] = block.shape();
    let (client, dtype) = (buffers[0].client.clone(), buffers[0].dtype);
    let device = &buffers[0].device;
    let [k, v] = upload_sides(block, &client, device);
    let k = int8_rows(k, block.k().n_scales(), &client, device);
    let v = int8_rows(v, block.v().n_scales(), &client, device);
    let (count, dim) = per_element(&client, n_rows * heads * head_dim / 2 / FOUR);
    place_int8_kernel::launch::<R>(
        &client,
        count,
        dim,
        keys_values(buffers.clone()),
        k,
        v,
        turn(rotation, heads, FOUR),
        start * heads * head_dim / FOUR,
        dtype.into(),
    );
    buffers
}

fn int8_rows<R: CubeRuntime>(
    side: Handle,
    n_scales: usize,
    client: &ComputeClient<R>,
    device: &R::Device,
) -> Int8RowsLaunch<R> {
    let words = Shape::from([side.size_in_used() as usize / size_of::<u32>()]);
    let words_as = |dtype| {
        array(on_device(
            side.clone(),
            words.clone(),
            dtype,
            client,
            device,
        ))
    };
    Int8RowsLaunch::new(words_as(DType::F32), words_as(DType::I32), n_scales)
}
