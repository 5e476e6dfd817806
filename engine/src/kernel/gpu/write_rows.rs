//! Puts fresh K and V into the KV buffers: one kernel rotates K and writes both.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::keys_values::{KeysValues, keys_values, write_pair};
use super::launch::{array, per_element, writable};
use super::rotate::{Turn, front_of_pair, turn, turn_size};
use crate::kernel::backend::FusionBackend;
use crate::kernel::rotate::Rotation;

/// One unit per pair of vectors of K that turn together, and for those of V in the same place.
#[cube(launch)]
fn write_kernel<F: Float, N: Size>(
    buffers: &mut KeysValues<F, N>, // [n_rows, heads, 2 * half]
    values: &KeysValues<F, N>,      // [m, heads, 2 * half]
    rows: &Array<i32>,              // [m]
    turn: &Turn<N>,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= values.k.len() / 2 {
        terminate!();
    }
    let width = values.k.len() / rows.len();
    let front = front_of_pair(turn, ABSOLUTE_POS);
    let back = front + turn.half;
    let to = usize::cast_from(rows[front / width]) * width + front % width;
    let k = (values.k[front], values.k[back]);
    let v = (values.v[front], values.v[back]);
    write_pair(buffers, to, turn, k, v);
}

/// [`FusionBackend::write_rows`].
pub(super) fn launch<R: CubeRuntime, B>(
    buffers: [CubeTensor<R>; 2],
    rows: CubeTensor<R>,
    values: [CubeTensor<R>; 2],
    rotation: &Rotation<B>,
) -> [CubeTensor<R>; 2]
where
    B: FusionBackend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let buffers = buffers.map(writable);
    let shape = values[0].meta.shape();
    let [m, heads, head_dim] = [shape[0], shape[1], shape[2]];
    let n_elements = m * heads * head_dim;
    if n_elements == 0 {
        return buffers;
    }
    let (client, dtype) = (buffers[0].client.clone(), buffers[0].dtype);
    let n = turn_size(head_dim, dtype);
    let (count, dim) = per_element(&client, n_elements / 2 / n);
    write_kernel::launch::<R>(
        &client,
        count,
        dim,
        n,
        keys_values(buffers.clone()),
        keys_values(values),
        array(rows),
        turn(rotation, heads, n),
        dtype.into(),
    );
    buffers
}
