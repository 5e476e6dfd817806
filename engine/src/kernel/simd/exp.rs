//! The exponential of a vector.

use super::lanes::Lanes;

/// `e^x` for `x <= 0`, within 2e-7 relative.
///
/// Range reduction to `|r| <= ln(2) / 2` and the polynomial of Cephes `expf` (Moshier).
///
/// # Safety
/// The processor must have the instruction set.
#[inline(always)]
pub(in crate::kernel) unsafe fn exp<L: Lanes>(x: L::V) -> L::V {
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
    // SAFETY: guaranteed by the caller.
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
