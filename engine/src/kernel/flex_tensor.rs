//! Flex tensors as slices: what the operations on the CPU share.

use std::borrow::Cow;

use burn::tensor::{DType, TensorData};
use burn_flex::FlexTensor;
use half::{bf16, f16};
use rayon::prelude::*;

use super::simd::Stored;

/// Values a thread takes at a time.
const TASK_VALUES: usize = 16 * 1024;

/// Runs an expression with a type name that stands for the dtype's element.
macro_rules! with_stored_type {
    ($dtype:expr, $element:ident => $body:expr) => {
        match $dtype {
            burn::tensor::DType::F32 => {
                type $element = f32;
                $body
            }
            burn::tensor::DType::F16 => {
                type $element = half::f16;
                $body
            }
            burn::tensor::DType::BF16 => {
                type $element = half::bf16;
                $body
            }
            other => panic!("kernels take f32, f16 and bf16, not {other:?}"),
        }
    };
}
pub(super) use with_stored_type;

/// The tensor as one dense buffer. A dense tensor is moved, not cloned: a second reference would
/// turn the in-place write into a copy.
pub(super) fn whole(tensor: FlexTensor) -> FlexTensor {
    let dense = tensor.is_contiguous()
        && tensor.layout().start_offset() == 0
        && tensor.bytes().len() == tensor.layout().num_elements() * tensor.dtype().size();
    if dense {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// The values of a dense tensor as f32.
pub(super) fn floats(tensor: &FlexTensor) -> Cow<'_, [f32]> {
    match tensor.dtype() {
        DType::F32 => Cow::Borrowed(tensor.storage()),
        DType::F16 => Cow::Owned(widened::<f16>(tensor.storage())),
        DType::BF16 => Cow::Owned(widened::<bf16>(tensor.storage())),
        other => panic!("kernels take f32, f16 and bf16, not {other:?}"),
    }
}

/// The values of a tensor as f32, in its own memory if nobody else holds it.
pub(super) fn into_floats(tensor: FlexTensor) -> Vec<f32> {
    let tensor = whole(tensor);
    match tensor.dtype() {
        DType::F32 => {
            let data = tensor.into_data();
            data.into_vec().expect("the dtype is f32")
        }
        _ => floats(&tensor).into_owned(),
    }
}

/// A tensor of these values, rounded to `dtype`.
pub(super) fn from_floats<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    dtype: DType,
) -> FlexTensor {
    FlexTensor::from_data(match dtype {
        DType::F16 => TensorData::new(narrowed::<f16>(&values), shape),
        DType::BF16 => TensorData::new(narrowed::<bf16>(&values), shape),
        _ => TensorData::new(values, shape),
    })
}

fn widened<E: Stored>(values: &[E]) -> Vec<f32> {
    let mut wide = vec![0.0; values.len()];
    in_tasks(&mut wide, values, |wide, values| E::widen_row(values, wide));
    wide
}

fn narrowed<E: Stored>(values: &[f32]) -> Vec<E> {
    let mut narrow = vec![E::zeroed(); values.len()];
    in_tasks(&mut narrow, values, |narrow, values| {
        E::narrow_row(values, narrow)
    });
    narrow
}

/// Applies `work` to two rows of the same length, in parts on all threads, or in one call if they are short.
pub(super) fn in_tasks<T: Send, U: Sync>(
    to: &mut [T],
    from: &[U],
    work: impl Fn(&mut [T], &[U]) + Sync,
) {
    if to.len() <= TASK_VALUES {
        return work(to, from);
    }
    let tasks = to.par_chunks_mut(TASK_VALUES);
    let tasks = tasks.zip(from.par_chunks(TASK_VALUES));
    tasks.for_each(|(to, from)| work(to, from));
}

/// The sizes of a tensor.
pub(super) fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    let shape = tensor.layout().shape();
    std::array::from_fn(|i| shape[i])
}
