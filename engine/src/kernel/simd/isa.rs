//! The instruction sets that kernels are compiled for, and which of them this processor has.

use std::sync::LazyLock;

use super::lanes::{Kernel, Lanes};
use super::portable::Portable;
#[cfg(target_arch = "x86_64")]
use super::{
    avx2::{self, Avx2},
    avx512::{self, Avx512},
};

/// An instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The best one this processor has.
    pub(in crate::kernel) fn best() -> Self {
        static BEST: LazyLock<Isa> =
            LazyLock::new(|| *Isa::all().first().unwrap_or(&Isa::Portable));
        *BEST
    }

    /// All that this processor has, the best first.
    pub(in crate::kernel) fn all() -> Vec<Self> {
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
    pub(in crate::kernel) fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::N,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::N,
            Self::Portable => Portable::N,
        }
    }

    /// Runs a kernel compiled for this set.
    pub(in crate::kernel) fn run<K: Kernel>(self, kernel: K) -> K::Output {
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
