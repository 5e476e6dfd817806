//! A stored block into the KV buffers, on CubeCL backends. Its bytes go up as they are, from where they were
//! read to, and in one copy where K and V lie in one buffer; one kernel converts both, rotates K and writes
//! them where they belong.

use burn::tensor::{Bytes, DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::server::Handle;

use super::FusionBackend;
use super::cube::{array, per_element, upload, writable};
use super::rotate::Rotation;
use super::rotate::cube::{Turn, front_of_pair, turn, turn_size, turned};
use crate::kv::{KvDtype, StoredBlock};

#[derive(CubeType, CubeLaunch)]
struct KeysValues<E: Float, N: Size> {
    k: Array<Vector<E, N>>,
    v: Array<Vector<E, N>>,
}

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
    let (a, b) = (
        Vector::cast_from(stored.k[front]),
        Vector::cast_from(stored.k[back]),
    );
    let (a, b) = turned(turn, ABSOLUTE_POS, a, b);
    buffers.k[first + front] = Vector::cast_from(a);
    buffers.k[first + back] = Vector::cast_from(b);
    buffers.v[first + front] = Vector::cast_from(stored.v[front]);
    buffers.v[first + back] = Vector::cast_from(stored.v[back]);
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
    let (client, dtype) = (buffers[0].client.clone(), buffers[0].dtype);
    let stored = stored_tensors(block, &buffers[0]);
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

fn keys_values<E: Float, N: Size, R: CubeRuntime>(
    tensors: [CubeTensor<R>; 2],
) -> KeysValuesLaunch<E, N, R> {
    let [k, v] = tensors.map(array);
    KeysValuesLaunch::new(k, v)
}

/// K and V as they are stored, beside `like`; widened where no tensor holds what is stored.
fn stored_tensors<R: CubeRuntime>(
    block: &StoredBlock<'_>,
    like: &CubeTensor<R>,
) -> [CubeTensor<R>; 2] {
    let sides = [block.k(), block.v()];
    let handles = match (block.dtype(), block.buffer()) {
        (KvDtype::Int8, _) => sides.map(|side| upload(Bytes::from_elems(side.widen()), like)),
        (_, None) => sides.map(|side| upload(side.to_bytes(), like)),
        (_, Some((buffer, span))) => {
            let len = buffer.len();
            let whole = upload(buffer, like);
            [span.k(), span.v()].map(|side| {
                let start = whole.clone().offset_start(side.start as u64);
                start.offset_end((len - side.end) as u64)
            })
        }
    };
    let dtype = block.dtype().dtype();
    handles.map(|handle| stored_tensor(handle, block.shape(), dtype, like))
}

fn stored_tensor<R: CubeRuntime>(
    handle: Handle,
    shape: [usize; 3],
    dtype: DType,
    like: &CubeTensor<R>,
) -> CubeTensor<R> {
    let (client, device) = (like.client.clone(), like.device.clone());
    CubeTensor::new_contiguous(client, device, Shape::from(shape), handle, dtype)
}
