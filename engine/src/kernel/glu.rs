//! The gated linear unit of the MLP: `f(gate) * up`, with `f` an [`Activation`].
//!
//! Both activations are `x / (1 + e^-z)`, with `z = x` for SiLU. For GELU in its tanh form, whose
//! `(1 + tanh y) / 2` equals `1 / (1 + e^-2y)`, it is `z = sqrt(8 / pi) (x + 0.044715 x^3)`.
#![expect(unsafe_code, reason = "vectors over raw pointers")]

use std::f32::consts::{FRAC_2_SQRT_PI, SQRT_2};
use std::marker::PhantomData;

use burn::tensor::activation::{gelu_approximate, silu};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use burn_flex::FlexTensor;

use super::flex_tensor::{dims, floats, from_floats, in_tasks, into_floats, whole};
use super::simd::{Isa, Kernel, Lanes, exp};
use crate::config::Activation;

/// GELU's factor of `x` in `z`, `sqrt(8 / pi)`, and of `x^3`.
pub(super) const GELU_LINEAR: f32 = SQRT_2 * FRAC_2_SQRT_PI;
pub(super) const GELU_CUBIC: f32 = 0.044715 * GELU_LINEAR;

/// The reference, in plain tensor code.
pub(super) fn reference<B: Backend>(
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    activation: Activation,
) -> FloatTensor<B> {
    let tensor = |x| Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(x));
    let gate = match activation {
        Activation::Silu => silu(tensor(gate)),
        Activation::GeluTanh => gelu_approximate(tensor(gate)),
    };
    (gate * tensor(up)).into_primitive().tensor()
}

/// The Flex version, in f32: one pass.
pub(super) fn on_flex(gate: FlexTensor, up: FlexTensor, activation: Activation) -> FlexTensor {
    let (dtype, shape) = (gate.dtype(), dims::<2>(&gate));
    let mut out = into_floats(gate);
    let up = whole(up);
    let up = floats(&up);
    in_tasks(&mut out, &up, |gate, up| {
        run(Isa::in_use(), gate, up, activation)
    });
    from_floats(out, shape, dtype)
}

/// Replaces `gate` by the result.
fn run(isa: Isa, gate: &mut [f32], up: &[f32], activation: Activation) {
    match activation {
        Activation::Silu => isa.run(Gate::<Silu>::new(gate, up)),
        Activation::GeluTanh => isa.run(Gate::<GeluTanh>::new(gate, up)),
    }
}

/// An activation as its `z`, which has the sign of `x`.
trait Curve {
    /// # Safety
    /// As for [`Kernel::run`].
    unsafe fn z<L: Lanes>(x: L::V) -> L::V;
    fn z_of_one(x: f32) -> f32;
}

struct Silu;

impl Curve for Silu {
    #[inline(always)]
    unsafe fn z<L: Lanes>(x: L::V) -> L::V {
        x
    }

    #[inline(always)]
    fn z_of_one(x: f32) -> f32 {
        x
    }
}

struct GeluTanh;

impl Curve for GeluTanh {
    #[inline(always)]
    unsafe fn z<L: Lanes>(x: L::V) -> L::V {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (linear, cubic) = (L::splat(GELU_LINEAR), L::splat(GELU_CUBIC));
            L::mul(x, L::fma(L::mul(x, x), cubic, linear))
        }
    }

    #[inline(always)]
    fn z_of_one(x: f32) -> f32 {
        x * (x * x * GELU_CUBIC + GELU_LINEAR)
    }
}

struct Gate<'a, C> {
    gate: &'a mut [f32],
    up: &'a [f32],
    curve: PhantomData<C>,
}

impl<'a, C> Gate<'a, C> {
    fn new(gate: &'a mut [f32], up: &'a [f32]) -> Self {
        Self {
            gate,
            up,
            curve: PhantomData,
        }
    }
}

impl<C: Curve> Kernel for Gate<'_, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let whole = self.gate.len() / L::N * L::N;
        let (gate, gate_rest) = self.gate.split_at_mut(whole);
        let (up, up_rest) = self.up.split_at(whole);
        for (gate, up) in gate.chunks_exact_mut(L::N).zip(up.chunks_exact(L::N)) {
            // SAFETY: chunks of a vector's length.
            unsafe {
                let x = activate::<L, C>(L::load(gate.as_ptr()));
                L::store(gate.as_mut_ptr(), L::mul(x, L::load(up.as_ptr())));
            }
        }
        for (gate, up) in gate_rest.iter_mut().zip(up_rest) {
            *gate = *gate / (1.0 + (-C::z_of_one(*gate)).exp()) * up;
        }
    }
}

/// `exp` takes only values that are not positive: the result is `x e^-|z| / (1 + e^-|z|)` for negative `x`, else
/// `x / (1 + e^-|z|)`.
#[inline(always)]
unsafe fn activate<L: Lanes, C: Curve>(x: L::V) -> L::V {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let z = C::z::<L>(x);
        let decay = exp::<L>(L::sub(negative_part::<L>(z), L::max(L::splat(0.0), z))); // e^-|z|
        let numerator = L::fma(negative_part::<L>(x), decay, L::max(L::splat(0.0), x));
        L::div(numerator, L::add(L::splat(1.0), decay))
    }
}

/// `min(x, 0)`.
#[inline(always)]
unsafe fn negative_part<L: Lanes>(x: L::V) -> L::V {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let zero = L::splat(0.0);
        L::sub(zero, L::max(zero, L::sub(zero, x)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(x: f64, activation: Activation) -> f64 {
        match activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                let y = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                x * (1.0 + y.tanh()) / 2.0
            }
        }
    }

    #[test]
    fn both_activations_are_right_on_every_instruction_set() {
        // 1,203 values: whole vectors and a rest on every set; up to 60, where e^x is near the end of f32.
        let x: Vec<f32> = (-601..=601).map(|i| i as f32 / 10.0).collect();
        let up: Vec<f32> = x.iter().map(|x| 0.5 - x / 300.0).collect();
        for isa in Isa::all() {
            for activation in [Activation::Silu, Activation::GeluTanh] {
                let mut actual = x.clone();
                run(isa, &mut actual, &up, activation);
                for ((actual, x), up) in actual.iter().zip(&x).zip(&up) {
                    let expected = expected(f64::from(*x), activation) * f64::from(*up);
                    let error = (f64::from(*actual) - expected).abs();
                    assert!(
                        error <= 1e-6 * expected.abs().max(0.1),
                        "{isa:?} {activation:?} of {x}: {actual}, not {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn values_far_out_neither_overflow_nor_hide_what_is_not_finite() {
        // Whole vectors and a rest on every set.
        let x: Vec<f32> = [1e20, -1e20, f32::INFINITY, f32::NAN].repeat(9);
        let up = vec![1.0; x.len() + 1];
        for isa in Isa::all() {
            for activation in [Activation::Silu, Activation::GeluTanh] {
                let mut out = [&x[..], &[1e20]].concat();
                run(isa, &mut out, &up, activation);
                let what = format!("{isa:?} {activation:?}: {out:?}");
                assert_eq!(out[36], 1e20, "{what}");
                for four in out.chunks_exact(4) {
                    assert_eq!((four[0], four[2]), (1e20, f32::INFINITY), "{what}");
                    assert!(four[1].abs() < 1e-15 && four[3].is_nan(), "{what}");
                }
            }
        }
    }
}
