//! What kernels are written over: a vector of floats, the code that runs on one, and the types that
//! vectors are loaded from.

use std::convert::identity;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// A vector of `N` floats. The lowest level of the kernels: pointers, no checks.
///
/// # Safety
/// Every function needs its instruction set, and pointers to `N` elements.
pub(in crate::kernel) trait Lanes: Copy + Send + Sync + 'static {
    type V: Copy;
    /// Floats in a vector.
    const N: usize;
    /// Rows of the largest register tile of the matrix kernels, two vectors wide.
    const TILE_ROWS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn load_f16(from: *const f16) -> Self::V;
    unsafe fn load_bf16(from: *const bf16) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// The larger of the two; `b` if either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `2^n` for integral `n` in `-126..=127`.
    unsafe fn pow2(n: Self::V) -> Self::V;
    unsafe fn sum(v: Self::V) -> f32;
    unsafe fn max_of(v: Self::V) -> f32;
}

/// Code that runs on any instruction set.
pub(in crate::kernel) trait Kernel {
    type Output;

    /// # Safety
    /// The processor must have the instruction set of `L`. Must be `#[inline(always)]`, or it is compiled without it.
    unsafe fn run<L: Lanes>(self) -> Self::Output;
}

/// An element type that vectors of `f32` are loaded from.
pub(in crate::kernel) trait Stored: Copy + Send + Sync + bytemuck::Pod {
    /// Whether this is `f32` itself.
    const IS_F32: bool = false;

    /// # Safety
    /// As for [`Lanes::load`].
    unsafe fn load<L: Lanes>(from: *const Self) -> L::V;
    fn widen(self) -> f32;
    fn narrow(x: f32) -> Self;
    /// Widens a row into another of the same length.
    fn widen_row(from: &[Self], to: &mut [f32]);
    /// Rounds a row into another of the same length.
    fn narrow_row(from: &[f32], to: &mut [Self]);
}

macro_rules! stored {
    ($type:ty, $load:ident, $widen:expr, $narrow:expr, $widen_row:expr, $narrow_row:expr, $is_f32:literal) => {
        impl Stored for $type {
            const IS_F32: bool = $is_f32;

            #[inline(always)]
            unsafe fn load<L: Lanes>(from: *const Self) -> L::V {
                // SAFETY: guaranteed by the caller.
                unsafe { L::$load(from) }
            }

            #[inline(always)]
            fn widen(self) -> f32 {
                $widen(self)
            }

            #[inline(always)]
            fn narrow(x: f32) -> Self {
                $narrow(x)
            }

            #[inline]
            fn widen_row(from: &[Self], to: &mut [f32]) {
                $widen_row(from, to)
            }

            #[inline]
            fn narrow_row(from: &[f32], to: &mut [Self]) {
                $narrow_row(to, from)
            }
        }
    };
}

stored!(
    f32,
    load,
    identity,
    identity,
    |from: &[f32], to: &mut [f32]| to.copy_from_slice(from),
    <[f32]>::copy_from_slice,
    true
);
stored!(
    f16,
    load_f16,
    f16::to_f32,
    f16::from_f32,
    HalfFloatSliceExt::convert_to_f32_slice,
    HalfFloatSliceExt::convert_from_f32_slice,
    false
);
stored!(
    bf16,
    load_bf16,
    bf16::to_f32,
    bf16::from_f32,
    HalfFloatSliceExt::convert_to_f32_slice,
    HalfFloatSliceExt::convert_from_f32_slice,
    false
);
