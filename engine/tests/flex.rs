//! The engine suite on the CPU backend. `RAGWEAVE_ISA=avx2` or `plain` runs it on the kernels of that instruction set;
//! `scripts/test.sh` runs it on all that the processor has.

mod suite;

use burn_flex::{Flex, FlexDevice};
use ragweave_engine::Isa;

backend_suite!(Flex, device());

/// The device, with the kernels of the process limited as the environment says.
#[expect(
    clippy::disallowed_methods,
    reason = "a test binary has no configuration that could hold this"
)]
fn device() -> FlexDevice {
    if let Ok(name) = std::env::var("RAGWEAVE_ISA") {
        let isa = name.parse().expect("RAGWEAVE_ISA is an instruction set");
        Isa::limit(isa).expect("no kernel has run yet");
    }
    FlexDevice
}
