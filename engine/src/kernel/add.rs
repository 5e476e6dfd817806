//! The residual addition: the reference and the Flex version (in place).

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use burn_flex::FlexTensor;

use super::flex_tensor::{in_tasks, whole, with_stored_type};
use super::simd::Stored;

/// Values converted to f32 at a time; they stay in the L1 cache.
const STRIP: usize = 512;

/// The reference, in plain tensor code.
pub(super) fn reference<B: Backend>(x: FloatTensor<B>, y: FloatTensor<B>) -> FloatTensor<B> {
    let tensor = |x| Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(x));
    (tensor(x) + tensor(y)).into_primitive().tensor()
}

/// The Flex version, rounded once: in place unless `x` is shared.
pub(super) fn on_flex(x: FlexTensor, y: FlexTensor) -> FlexTensor {
    let (mut x, y) = (whole(x), whole(y));
    with_stored_type!(x.dtype(), E => in_tasks(x.storage_mut::<E>(), y.storage(), add_strips));
    x
}

fn add_strips<E: Stored>(x: &mut [E], y: &[E]) {
    let (mut sums, mut added) = ([0.0; STRIP], [0.0; STRIP]);
    for (x, y) in x.chunks_mut(STRIP).zip(y.chunks(STRIP)) {
        let (sums, added) = (&mut sums[..x.len()], &mut added[..x.len()]);
        E::widen_row(x, sums);
        E::widen_row(y, added);
        sums.iter_mut()
            .zip(added)
            .for_each(|(sum, added)| *sum += *added);
        E::narrow_row(sums, x);
    }
}
