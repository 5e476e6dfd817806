//! Stored KV into a KV buffer: widened or narrowed, rotated to its positions and put in its place in one pass.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Element, Tensor, TensorPrimitive};
use burn_flex::FlexTensor;
use bytemuck::Pod;
use rayon::prelude::*;

use super::flex::{floats, whole, with_stored_type};
use super::rotate::{self, Rotation};
use super::simd::Stored;
use crate::kv::StoredRows;

/// Tokens a thread takes at a time.
const ROWS_PER_TASK: usize = 64;

/// Plain tensor code: a tensor of the stored rows, rotated, assigned to a slice.
pub(super) fn reference<B: Backend>(
    buffer: FloatTensor<B>,
    start: usize,
    stored: &StoredRows<'_>,
    rotation: Option<&Rotation<B>>,
) -> FloatTensor<B> {
    let buffer = Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(buffer));
    let rows: Tensor<B, 3> = stored.to_tensor(&buffer.device()).cast(DType::F32);
    let rows = match rotation {
        Some(rotation) => {
            let rotated = rotate::reference::<B>(rows.into_primitive().tensor(), rotation);
            Tensor::from_primitive(TensorPrimitive::Float(rotated))
        }
        None => rows,
    };
    let [n, heads, head_dim] = stored.shape();
    let rows = rows.cast(buffer.dtype());
    buffer
        .slice_assign([start..start + n, 0..heads, 0..head_dim], rows)
        .into_primitive()
        .tensor()
}

/// The Flex version: in place unless the buffer is shared.
pub(super) fn on_flex(
    buffer: FlexTensor,
    start: usize,
    stored: &StoredRows<'_>,
    rotation: Option<&Rotation<burn_flex::Flex>>,
) -> FlexTensor {
    let mut buffer = whole(buffer);
    let tables = rotation.map(|rotation| (floats(&rotation.cos), floats(&rotation.sin)));
    let tables = tables.as_ref().map(|(cos, sin)| (&cos[..], &sin[..]));
    with_stored_type!(buffer.dtype(), E => place::<E>(&mut buffer, start, stored, tables));
    buffer
}

fn place<E: Stored + Element + Pod>(
    buffer: &mut FlexTensor,
    start: usize,
    stored: &StoredRows<'_>,
    tables: Option<(&[f32], &[f32])>,
) {
    let [n, heads, head_dim] = stored.shape();
    let width = heads * head_dim;
    let out: &mut [E] = buffer.storage_mut();
    let out = &mut out[start * width..(start + n) * width];
    let tasks = out.par_chunks_mut(ROWS_PER_TASK * width).enumerate();
    tasks.for_each(|(task, out)| {
        let mut row = vec![0.0_f32; width];
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let index = task * ROWS_PER_TASK + i;
            stored.widen_row(index, &mut row);
            if let Some((cos, sin)) = tables {
                let angles = index * head_dim..(index + 1) * head_dim;
                rotate::rotate_row(&mut row, &cos[angles.clone()], &sin[angles]);
            }
            E::narrow_row(&row, out);
        }
    });
}

#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub(super) mod cube {
    //! The CubeCL kernels and their launcher: the stored bytes go up once, as they are, from where they were
    //! read to, and one kernel converts them, rotates them and writes them where they belong.

    use burn::tensor::{Bytes, Shape};
    use burn_cubecl::CubeRuntime;
    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::tensor::CubeTensor;
    use cubecl::prelude::*;

    use super::Rotation;
    use crate::kernel::FusionBackend;
    use crate::kernel::cube::{per_element, upload as upload_bytes, writable};
    use crate::kernel::rotate::cube::places_of_pair;
    use crate::kv::{KvDtype, StoredRows};

    #[cube(launch)]
    fn place_kernel<F: Float, S: Float>(
        buffer: &mut Tensor<F>,
        stored: &Tensor<S>,
        first: usize,
        #[define(F)] _dtype: StorageType,
        #[define(S)] _stored_dtype: StorageType,
    ) {
        if ABSOLUTE_POS >= stored.shape(0) * stored.shape(1) * stored.shape(2) {
            terminate!();
        }
        buffer[first + ABSOLUTE_POS] = F::cast_from(stored[ABSOLUTE_POS]);
    }

    #[cube(launch)]
    #[expect(clippy::too_many_arguments, reason = "the bindings of a kernel")]
    fn place_rotated_kernel<F: Float, S: Float>(
        buffer: &mut Tensor<F>,
        stored: &Tensor<S>,
        cos: &Tensor<f32>,
        sin: &Tensor<f32>,
        first: usize,
        #[define(F)] _dtype: StorageType,
        #[define(S)] _stored_dtype: StorageType,
    ) {
        let half = stored.shape(2) / 2;
        if ABSOLUTE_POS >= stored.shape(0) * stored.shape(1) * half {
            terminate!();
        }
        let (front, angle) = places_of_pair(ABSOLUTE_POS, stored.shape(1), stored.shape(2));
        let a = f32::cast_from(stored[front]);
        let b = f32::cast_from(stored[front + half]);
        let out = first + front;
        buffer[out] = F::cast_from(a * cos[angle] - b * sin[angle]);
        buffer[out + half] = F::cast_from(b * cos[angle + half] + a * sin[angle + half]);
    }

    pub(in crate::kernel) fn launch<R: CubeRuntime, B>(
        buffer: CubeTensor<R>,
        start: usize,
        stored: &StoredRows<'_>,
        rotation: Option<&Rotation<B>>,
    ) -> CubeTensor<R>
    where
        B: FusionBackend<FloatTensorPrimitive = CubeTensor<R>>,
    {
        let buffer = writable(buffer);
        let [n, heads, head_dim] = stored.shape();
        let n_elements = n * heads * head_dim;
        if n_elements == 0 {
            return buffer;
        }
        let first = start * heads * head_dim;
        let (client, dtype) = (buffer.client.clone(), buffer.dtype);
        let rows = upload(stored, &buffer);
        let (target, stored_dtype) = (buffer.clone().into_tensor_arg(), rows.dtype);
        let rows = rows.into_tensor_arg();
        let (dtype, stored_dtype) = (dtype.into(), stored_dtype.into());
        match rotation {
            None => {
                let (count, dim) = per_element(&client, n_elements);
                place_kernel::launch::<R>(
                    &client,
                    count,
                    dim,
                    target,
                    rows,
                    first,
                    dtype,
                    stored_dtype,
                );
            }
            Some(rotation) => {
                let (count, dim) = per_element(&client, n_elements / 2);
                let cos = into_contiguous(rotation.cos.clone()).into_tensor_arg();
                let sin = into_contiguous(rotation.sin.clone()).into_tensor_arg();
                place_rotated_kernel::launch::<R>(
                    &client,
                    count,
                    dim,
                    target,
                    rows,
                    cos,
                    sin,
                    first,
                    dtype,
                    stored_dtype,
                );
            }
        }
        buffer
    }

    /// The rows as they are stored, beside `like`.
    fn upload<R: CubeRuntime>(stored: &StoredRows<'_>, like: &CubeTensor<R>) -> CubeTensor<R> {
        let bytes = match stored.dtype() {
            // What no tensor holds as it is stored is widened here.
            KvDtype::Int8 => Bytes::from_elems(stored.widen()),
            KvDtype::F32 | KvDtype::F16 | KvDtype::Bf16 => stored.to_bytes(),
        };
        let handle = upload_bytes(bytes, like);
        let (shape, dtype) = (Shape::from(stored.shape()), stored.dtype().dtype());
        CubeTensor::new_contiguous(
            like.client.clone(),
            like.device.clone(),
            shape,
            handle,
            dtype,
        )
    }
}
