//! Vectors of `f32` for the CPU kernels: one trait, an implementation per instruction set, and the choice between them
//! at run time. Kernels are written once over [`Lanes`]; `run` compiles them for each set.
#![expect(
    unsafe_code,
    reason = "intrinsics; a kernel runs only on the instruction set that was detected"
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::convert::identity;
use std::sync::LazyLock;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Avx512;
pub(super) use portable::Portable;

/// A vector of `N` floats. The lowest level of the kernels: pointers, no checks.
///
/// # Safety
/// Every function needs its instruction set, and pointers to `N` elements.
pub(super) trait Lanes: Copy + Send + Sync + 'static {
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
    /// The larger; `b` where one is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `2^n` for integral `n` in `-126..=127`.
    unsafe fn pow2(n: Self::V) -> Self::V;
    unsafe fn sum(v: Self::V) -> f32;
    unsafe fn max_of(v: Self::V) -> f32;
}

/// Code that runs on any instruction set.
pub(super) trait Kernel {
    type Output;

    /// # Safety
    /// The processor has the instruction set of `L`. Must be `#[inline(always)]`, or it is compiled without it.
    unsafe fn run<L: Lanes>(self) -> Self::Output;
}

/// An instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The best one this processor has.
    pub(super) fn best() -> Self {
        static BEST: LazyLock<Isa> =
            LazyLock::new(|| *Isa::all().first().unwrap_or(&Isa::Portable));
        *BEST
    }

    /// All that this processor has, the best first.
    pub(super) fn all() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
                found.push(Self::Avx512);
            }
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 && is_x86_feature_detected!("f16c") {
                found.push(Self::Avx2);
            }
        }
        found.push(Self::Portable);
        found
    }

    /// Floats in a vector.
    pub(super) fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::N,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::N,
            Self::Portable => Portable::N,
        }
    }

    /// Runs a kernel compiled for this set.
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `all` found the set on this processor.
            Self::Avx512 => unsafe { avx512::run(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx2 => unsafe { avx2::run(kernel) },
            // SAFETY: needs no instruction set.
            Self::Portable => unsafe { kernel.run::<Portable>() },
        }
    }
}

/// `e^x` for `x <= 0`, within 2e-7 relative.
///
/// Range reduction to `|r| <= ln(2) / 2` and the polynomial of Cephes `expf` (Moshier).
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
pub(super) unsafe fn exp<L: Lanes>(x: L::V) -> L::V {
    /// Adding and subtracting `1.5 * 2^23` rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    /// `e^x` is a normal number above this.
    const LOWEST: f32 = -87.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const POLYNOMIAL: [f32; 6] = [
        1.987_569_1e-4,
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ];
    // SAFETY: the caller's.
    unsafe {
        let x = L::max(L::splat(LOWEST), x); // in this order NaN stays NaN
        let shifted = L::fma(x, L::splat(std::f32::consts::LOG2_E), L::splat(ROUND));
        let n = L::sub(shifted, L::splat(ROUND));
        let r = L::fma(n, L::splat(-LN_2_HIGH), x);
        let r = L::fma(n, L::splat(-LN_2_LOW), r);
        let mut p = L::splat(POLYNOMIAL[0]);
        for &coefficient in &POLYNOMIAL[1..] {
            p = L::fma(p, r, L::splat(coefficient));
        }
        let p = L::fma(p, L::mul(r, r), L::add(r, L::splat(1.0)));
        L::mul(p, L::pow2(n))
    }
}

/// A number that vectors of `f32` are made from.
pub(super) trait Stored: Copy + Send + Sync + bytemuck::Pod {
    /// Whether this is `f32` itself.
    const IS_F32: bool = false;

    /// # Safety
    /// As of [`Lanes::load`].
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
                // SAFETY: the caller's.
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp<'a>(&'a mut [f32]);

    impl Kernel for Exp<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<L: Lanes>(self) {
            for lanes in self.0.chunks_exact_mut(L::N) {
                // SAFETY: a chunk holds `N` floats.
                unsafe { L::store(lanes.as_mut_ptr(), exp::<L>(L::load(lanes.as_ptr()))) }
            }
        }
    }

    #[test]
    fn exp_is_close_to_the_standard_library_on_every_instruction_set() {
        let x: Vec<f32> = (0..87_008).map(|i| -(i as f32) / 1000.1).collect();
        for isa in Isa::all() {
            let mut actual = x.clone();
            isa.run(Exp(&mut actual));
            for (x, actual) in x.iter().zip(&actual) {
                let error = ((actual - x.exp()) / x.exp()).abs();
                assert!(error <= 2e-7, "{isa:?}: exp({x}) = {actual}: {error}");
            }
            assert_eq!(actual[0], 1.0, "{isa:?}: exp(0)");
        }
    }

    #[test]
    fn exp_of_what_is_masked_is_nearly_nothing() {
        for isa in Isa::all() {
            let mut x = [f32::NEG_INFINITY; 16];
            isa.run(Exp(&mut x));
            assert!(
                x.iter().all(|&x| (0.0..1e-37).contains(&x)),
                "{isa:?}: {x:?}"
            );
        }
    }

    struct Sums<'a, E>(&'a [E]);

    impl<E: Stored> Kernel for Sums<'_, E> {
        type Output = (f32, f32);

        #[inline(always)]
        unsafe fn run<L: Lanes>(self) -> (f32, f32) {
            // SAFETY: the slice holds a vector.
            unsafe {
                let v = E::load::<L>(self.0.as_ptr());
                (L::sum(v) / L::N as f32, L::max_of(v))
            }
        }
    }

    #[test]
    fn vectors_are_loaded_from_every_stored_type() {
        fn check<E: Stored + From<i8>>(isa: Isa) {
            let values: Vec<E> = (0..16).map(|i| E::from(i - 4)).collect();
            let n = isa.lanes();
            let expected = (
                (0..n).map(|i| i as f32 - 4.0).sum::<f32>() / n as f32,
                n as f32 - 5.0,
            );
            assert_eq!(isa.run(Sums(&values)), expected, "{isa:?}");
        }
        for isa in Isa::all() {
            check::<f32>(isa);
            check::<f16>(isa);
            check::<bf16>(isa);
        }
    }
}
