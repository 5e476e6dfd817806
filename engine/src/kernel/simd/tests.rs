//! The exponential and the loads on every instruction set of this processor.

use half::{bf16, f16};

use super::{Isa, Kernel, Lanes, Stored, exp};

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
