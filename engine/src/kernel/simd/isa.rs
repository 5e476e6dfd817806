//! The instruction sets that kernels are compiled for, and which of them this processor has.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use super::lanes::{Kernel, Lanes};
use super::portable::Portable;
#[cfg(target_arch = "x86_64")]
use super::{
    avx2::{self, Avx2},
    avx512::{self, Avx512},
};

/// An instruction set that the CPU kernels are compiled for. A higher one compares greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// No vector instructions of ours; the compiler uses those that every processor of the architecture has.
    Plain,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512F with AVX-512BW.
    Avx512,
}

/// The one that kernels of this process run on, once it is known.
static IN_USE: OnceLock<Isa> = OnceLock::new();

/// A limit that comes too late: kernels of this process already run on another instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the CPU kernels of this process already use {in_use}")]
pub struct IsaInUse {
    pub in_use: Isa,
}

impl Isa {
    const NAMES: [(&str, Self); 3] = [
        ("avx512", Self::Avx512),
        ("avx2", Self::Avx2),
        ("plain", Self::Plain),
    ];

    /// The best one this processor has, and that is not above `limit`.
    #[must_use]
    pub fn best_within(limit: Option<Self>) -> Self {
        let allowed = |isa: &Self| limit.is_none_or(|limit| *isa <= limit);
        let best = Self::all().into_iter().find(allowed);
        best.unwrap_or(Self::Plain)
    }

    /// Makes all kernels of this process run on at most this set. For tests and measurements: must be called before the
    /// first kernel runs.
    ///
    /// # Errors
    /// If kernels have run on another set.
    pub fn limit(limit: Self) -> Result<(), IsaInUse> {
        let wanted = Self::best_within(Some(limit));
        match *IN_USE.get_or_init(|| wanted) {
            in_use if in_use == wanted => Ok(()),
            in_use => Err(IsaInUse { in_use }),
        }
    }

    /// The one that kernels run on: the best this processor has, unless there is a limit.
    pub(in crate::kernel) fn in_use() -> Self {
        *IN_USE.get_or_init(|| Self::best_within(None))
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
        found.push(Self::Plain);
        found
    }

    /// Floats in a vector.
    pub(in crate::kernel) fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::N,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::N,
            _ => Portable::N,
        }
    }

    /// Runs a kernel compiled for this set.
    pub(in crate::kernel) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: kernels get only sets that `all` found on this processor.
            Self::Avx512 => unsafe { avx512::run(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx2 => unsafe { avx2::run(kernel) },
            // SAFETY: needs no instruction set.
            _ => unsafe { kernel.run::<Portable>() },
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::NAMES.iter().find(|(_, isa)| isa == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

/// A name that is not the name of an instruction set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown instruction set {name:?}; write avx512, avx2 or plain")]
pub struct UnknownIsa {
    name: String,
}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Self, UnknownIsa> {
        let named = Self::NAMES.iter().find(|(known, _)| *known == name);
        let unknown = || UnknownIsa {
            name: name.to_owned(),
        };
        named.map(|(_, isa)| *isa).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for isa in [Isa::Avx512, Isa::Avx2, Isa::Plain] {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        let error = "sse2".parse::<Isa>().unwrap_err().to_string();
        assert!(error.contains("sse2") && error.contains("avx2"), "{error}");
    }

    #[test]
    fn a_limit_takes_the_best_set_below_it_that_the_processor_has() {
        assert_eq!(Isa::best_within(Some(Isa::Plain)), Isa::Plain);
        assert_eq!(Isa::best_within(None), Isa::all()[0]);
        let below = Isa::best_within(Some(Isa::Avx2));
        assert_eq!(below == Isa::Avx2, Isa::all().contains(&Isa::Avx2));
    }

    #[test]
    fn a_limit_after_the_first_kernel_is_refused_unless_it_changes_nothing() {
        let in_use = Isa::in_use();
        assert_eq!(Isa::limit(in_use), Ok(()));
        if in_use > Isa::Plain {
            assert_eq!(Isa::limit(Isa::Plain), Err(IsaInUse { in_use }));
        }
    }
}
