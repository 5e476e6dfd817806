//! K and V side by side, as the kernels that write both into the KV buffers take them.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::server::Handle;

use super::launch::{array, upload};
use super::rotate::{Turn, turned};
use crate::kv::StoredBlock;

#[derive(CubeType, CubeLaunch)]
pub(super) struct KeysValues<E: Float, N: Size> {
    pub(super) k: Array<Vector<E, N>>,
    pub(super) v: Array<Vector<E, N>>,
}

/// Writes the unit's pair of K, turned, and the pair of V in the same place, from vector `to` on.
#[cube]
pub(super) fn write_pair<F: Float, K: Float, V: Float, N: Size>(
    buffers: &mut KeysValues<F, N>,
    to: usize,
    turn: &Turn<N>,
    k: (Vector<K, N>, Vector<K, N>),
    v: (Vector<V, N>, Vector<V, N>),
) {
    let (a, b) = (Vector::cast_from(k.0), Vector::cast_from(k.1));
    let (a, b) = turned(turn, ABSOLUTE_POS, a, b);
    buffers.k[to] = Vector::cast_from(a);
    buffers.k[to + turn.half] = Vector::cast_from(b);
    buffers.v[to] = Vector::cast_from(v.0);
    buffers.v[to + turn.half] = Vector::cast_from(v.1);
}

pub(super) fn keys_values<E: Float, N: Size, R: CubeRuntime>(
    tensors: [CubeTensor<R>; 2],
) -> KeysValuesLaunch<E, N, R> {
    let [k, v] = tensors.map(array);
    KeysValuesLaunch::new(k, v)
}

/// Copies K and V to the device as they are stored: in one copy if they share a buffer.
pub(super) fn upload_sides<R: CubeRuntime>(
    block: &StoredBlock<'_>,
    client: &ComputeClient<R>,
    device: &R::Device,
) -> [Handle; 2] {
    let upload = |bytes| upload(bytes, client, device);
    let Some((buffer, span)) = block.buffer() else {
        return [block.k(), block.v()].map(|side| upload(side.to_bytes()));
    };
    let len = buffer.len();
    let whole = upload(buffer);
    [span.k(), span.v()].map(|side| {
        let start = whole.clone().offset_start(side.start as u64);
        start.offset_end((len - side.end) as u64)
    })
}
