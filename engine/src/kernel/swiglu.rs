//! The gate of the MLP: `silu(gate) * up`, `silu(x) = x / (1 + e^-x)`.
#![expect(unsafe_code, reason = "vectors over raw pointers")]

use burn::tensor::activation::silu;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use burn_flex::FlexTensor;

use super::flex_tensor::{dims, floats, from_floats, in_tasks, into_floats, whole};
use super::simd::{Isa, Kernel, Lanes, exp};

/// The reference, in plain tensor code.
pub(super) fn reference<B: Backend>(gate: FloatTensor<B>, up: FloatTensor<B>) -> FloatTensor<B> {
    let tensor = |x| Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(x));
    (silu(tensor(gate)) * tensor(up)).into_primitive().tensor()
}

/// The Flex version, in f32: one pass.
pub(super) fn on_flex(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
    let (dtype, shape) = (gate.dtype(), dims::<2>(&gate));
    let mut out = into_floats(gate);
    let up = whole(up);
    let (up, isa) = (floats(&up), Isa::best());
    in_tasks(&mut out, &up, |gate, up| isa.run(Gate { gate, up }));
    from_floats(out, shape, dtype)
}

struct Gate<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Kernel for Gate<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let whole = self.gate.len() / L::N * L::N;
        let (gate, gate_rest) = self.gate.split_at_mut(whole);
        let (up, up_rest) = self.up.split_at(whole);
        for (gate, up) in gate.chunks_exact_mut(L::N).zip(up.chunks_exact(L::N)) {
            // SAFETY: chunks of a vector's length.
            unsafe {
                let x = L::load(gate.as_ptr());
                L::store(
                    gate.as_mut_ptr(),
                    L::mul(silu_of::<L>(x), L::load(up.as_ptr())),
                );
            }
        }
        for (gate, up) in gate_rest.iter_mut().zip(up_rest) {
            *gate = *gate / (1.0 + (-*gate).exp()) * up;
        }
    }
}

/// `exp` takes only values that are not positive: `silu(x) = x e^-|x| / (1 + e^-|x|)` for negative `x`, else
/// `x / (1 + e^-|x|)`.
#[inline(always)]
unsafe fn silu_of<L: Lanes>(x: L::V) -> L::V {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let zero = L::splat(0.0);
        let negative_part = L::sub(zero, L::max(zero, L::sub(zero, x))); // min(x, 0)
        let positive_part = L::max(zero, x);
        let decay = exp::<L>(L::sub(negative_part, positive_part)); // e^-|x|
        let numerator = L::fma(negative_part, decay, positive_part);
        L::div(numerator, L::add(L::splat(1.0), decay))
    }
}
