//! Puts a stored block into the KV buffers. Its bytes are copied to the device unchanged, directly from the buffer
//! they were read into, and in one copy if K and V share a buffer. One kernel converts both, rotates K and writes
//! them to their rows.

use burn::tensor::{Bytes, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::keys_values::{KeysValues, keys_values, upload_sides, write_pair};
use super::launch::{on_device, per_element, upload, writable};
use super::place_int8;
use super::rotate::{Turn, front_of_pair, turn, turn_size};
use crate::kernel::backend::FusionBackend;
use crate::kernel::rotate::Rotation;
use crate::kv::{KvDtype, StoredBlock};

/// One unit per pair of vectors of K that turn together, and for those of V in the same place.
#[cube(launch)]
fn place_kernel<F: Float, S: Float, N: Size>(
    buffers: &mut KeysValues<F, N>, // [n_rows, heads, 2 * half]
    stored: &KeysValues<S, N>,      // [n, heads, 2 * half]
    turn: &Turn<N>,
    first: usize,
    #[define(F)] _dtype: StorageType,
    #[define(S)] _stored_dtype: StorageType,
) {
    if ABSOLUTE_POS >= stored.k.len() / 2 {
        terminate!();
    }
    let front = front_of_pair(turn, ABSOLUTE_POS);
    let back = front + turn.half;
    let k = (stored.k[front], stored.k[back]);
    let v = (stored.v[front], stored.v[back]);
    write_pair(buffers, first + front, turn, k, v);
}

/// [`FusionBackend::place_block`].
pub(super) fn launch<R: CubeRuntime, B>(
    buffers: [CubeTensor<R>; 2],
    start: usize,
    block: &StoredBlock<'_>,
    rotation: &Rotation<B>,
) -> [CubeTensor<R>; 2]
where
    B: FusionBackend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let buffers = buffers.map(writable);
    let [n_rows, heads, head_dim] = block.shape();
    let n_elements = n_rows * heads * head_dim;
    if n_elements == 0 {
        return buffers;
    }
    if place_int8::fits(block) {
        return place_int8::launch(buffers, start, block, rotation);
    }
    let (client, dtype) = (buffers[0].client.clone(), buffers[0].dtype);
    let stored = load(block, &client, &buffers[0].device);
    let stored_dtype = stored[0].dtype;
    let n = turn_size(head_dim, dtype);
    let (count, dim) = per_element(&client, n_elements / 2 / n);
    place_kernel::launch::<R>(
        &client,
        count,
        dim,
        n,
        keys_values(buffers.clone()),
        keys_values(stored),
        turn(rotation, heads, n),
        start * heads * head_dim / n,
        dtype.into(),
        stored_dtype.into(),
    );
    buffers
}

/// [`FusionBackend::load_block`].
pub(super) fn load<R: CubeRuntime>(
    block: &StoredBlock<'_>,
    client: &ComputeClient<R>,
    device: &R::Device,
) -> [CubeTensor<R>; 2] {
    let handles = match block.dtype() {
        // Widened, because no tensor type matches the stored form.
        KvDtype::Int8 => [block.k(), block.v()]
            .map(|side| upload(Bytes::from_elems(side.widen()), client, device)),
        KvDtype::F32 | KvDtype::F16 | KvDtype::Bf16 => upload_sides(block, client, device),
    };
    let (shape, dtype) = (Shape::from(block.shape()), block.dtype().dtype());
    handles.map(|handle| on_device(handle, shape.clone(), dtype, client, device))
}
