//! Vectors of `f32` for the CPU kernels: one trait, an implementation per instruction set, and the choice between them
//! at run time. Kernels are written once over [`Lanes`]; [`Isa::run`] compiles them for each set.
#![expect(
    unsafe_code,
    reason = "intrinsics; a kernel runs only on the instruction set that was detected"
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod exp;
mod isa;
mod lanes;
mod portable;
#[cfg(test)]
mod tests;

pub(super) use exp::exp;
pub use isa::{Isa, IsaInUse, UnknownIsa};
pub(super) use lanes::{Kernel, Lanes, Stored};
