//! Puts stored KV into a KV buffer: widened or narrowed, and rotated to its positions, in one pass.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Element, Tensor, TensorPrimitive};
use burn_flex::FlexTensor;
use bytemuck::Pod;
use rayon::prelude::*;

use super::flex_tensor::{floats, whole, with_stored_type};
use super::rotate::{self, Rotation};
use super::simd::Stored;
use crate::kv::StoredRows;

/// Tokens a thread takes at a time.
const ROWS_PER_TASK: usize = 64;

/// The reference, in plain tensor code: a tensor of the stored rows, rotated, assigned to a slice.
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
