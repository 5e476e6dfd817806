//! Running out of device memory costs the request its answer, not the engine its life.
//!
//! CubeCL reports it in several ways, always as text: as a failed read, as a failed synchronisation,
//! or as a panic of the code that needed the values. On Vulkan it panics in the device's own thread,
//! which lives on; whoever asked it learns only that the call failed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::kernel::FusionBackend;

/// How CubeCL 0.10 and the drivers below it say that memory could not be had. The last one is what a
/// kernel meets whose tensor could not be allocated.
const SIGNS: [&str; 5] = [
    "can't allocate buffer of size",
    "OUT_OF_MEMORY",
    "out of memory",
    "Not enough memory",
    "Reserved memory isn't initialized",
];

/// How CubeCL 0.10 says that the device's own thread panicked. What that thread said is on standard error only.
const CALL_FAILED: &str = "CallError";

/// Runs one job's work on the engine. Out of device memory, also where it shows as a panic, is the job's
/// error, and so is a panic of the device's thread; all other panics go on.
///
/// # Panics
/// Also where the device does not work any more after it ran out of memory.
pub(super) fn within_memory<B: FusionBackend, T>(
    engine: &mut Engine<B>,
    work: impl FnOnce(&mut Engine<B>) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let outcome = catch_unwind(AssertUnwindSafe(|| work(engine)));
    let (message, error) = match outcome {
        Ok(Err(EngineError::Device { message })) => match error_of(&message) {
            Some(error) => (message, error),
            None => return Err(EngineError::Device { message }),
        },
        Ok(result) => return result,
        Err(panic) => match panic_message(&*panic).and_then(|said| Some((said, error_of(said)?))) {
            Some((said, error)) => (said.to_owned(), error),
            None => resume_unwind(panic),
        },
    };
    tracing::warn!(message, "{error}; the request failed");
    if let Err(after) = engine.forget() {
        panic!("the device failed after this: {error}: {after}");
    }
    Err(error)
}

/// What a device that says this can be asked to go on after.
fn error_of(message: &str) -> Option<EngineError> {
    if is_out_of_memory(message) {
        return Some(EngineError::DeviceMemory);
    }
    message.contains(CALL_FAILED).then(|| EngineError::Device {
        message: "the device's thread panicked, as it does where memory cannot be had; standard error has its message"
            .to_owned(),
    })
}

/// What a panic said.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> Option<&str> {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied())
}

fn is_out_of_memory(message: &str) -> bool {
    SIGNS.iter().any(|sign| message.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_is_told_from_other_failures() {
        for message in [
            "can't allocate buffer of size: 68719476736\ndisabled backtrace",
            "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
            "Error while reading data: use `try_into_data` instead to catch the error at runtime: An error happened \
             during execution\nCaused by:\n  The server is in an invalid state\nCaused by:\n  [An execution error \
             happened during profiling\nCaused by:\n  couldn't find resource for that handle: Reserved memory isn't \
             initialized]",
        ] {
            assert!(is_out_of_memory(message), "{message}");
        }
        for message in [
            "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered",
            "index out of bounds: the len is 3 but the index is 7",
            "called `Result::unwrap()` on an `Err` value: CallError",
        ] {
            assert!(!is_out_of_memory(message), "{message}");
        }
    }

    #[test]
    fn a_panic_of_the_devices_thread_is_an_error_of_the_device() {
        let said = "called `Result::unwrap()` on an `Err` value: CallError";
        assert!(matches!(error_of(said), Some(EngineError::Device { .. })));
        assert!(error_of("index out of bounds").is_none());
        let memory = error_of("can't allocate buffer of size: 4398046511104");
        assert!(matches!(memory, Some(EngineError::DeviceMemory)));
    }

    #[test]
    fn what_a_panic_said_is_read_from_either_kind_of_text() {
        let said = |panic: Box<dyn Any + Send>| panic_message(&*panic).map(str::to_owned);
        assert_eq!(said(Box::new("literal")), Some("literal".to_owned()));
        assert_eq!(said(Box::new(format!("{}", 7))), Some("7".to_owned()));
        assert_eq!(said(Box::new(7)), None);
    }

    /// A tensor no device has room for, through the same calls as an engine's.
    #[cfg(feature = "vulkan")]
    #[test]
    fn a_device_that_has_no_memory_left_says_so_and_works_on() {
        use burn::tensor::Tensor;
        use burn_wgpu::{Vulkan, WgpuDevice};

        let panic = catch_unwind(|| {
            let device = WgpuDevice::default();
            let huge = Tensor::<Vulkan, 1>::zeros([1_usize << 40], &device);
            (huge + 1.0).sum().into_data()
        });
        let panic = panic.expect_err("4 TiB do not fit");
        let message = panic_message(&*panic).expect("a text");
        assert!(error_of(message).is_some(), "{message}");
        let device = WgpuDevice::default();
        let after = Tensor::<Vulkan, 1>::ones([2], &device).sum().into_data();
        assert_eq!(after.iter::<f32>().next(), Some(2.0));
    }
}
