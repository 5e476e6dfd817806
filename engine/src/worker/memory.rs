//! Running out of device memory fails the request, not the engine.
//!
//! CubeCL reports it in several ways, always as text: as a failed read, as a failed synchronisation,
//! or as a panic of the code that needed the values. On Vulkan the engine may be unable to continue: wgpu gives
//! up the device, and the worker handles that as any other panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::kernel::FusionBackend;

/// How CubeCL 0.10 and the drivers below it report that memory could not be allocated. The last one appears
/// when a kernel runs on a tensor that could not be allocated.
const SIGNS: [&str; 5] = [
    "can't allocate buffer of size",
    "OUT_OF_MEMORY",
    "out of memory",
    "Not enough memory",
    "Reserved memory isn't initialized",
];

/// Runs one job's work on the engine. Running out of device memory, even if it appears as a panic, becomes the
/// job's error; all other panics propagate.
///
/// # Panics
/// Also if the device no longer works after it ran out of memory.
pub(super) fn within_memory<B: FusionBackend, T>(
    engine: &mut Engine<B>,
    work: impl FnOnce(&mut Engine<B>) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let outcome = catch_unwind(AssertUnwindSafe(|| work(engine)));
    let message = match outcome {
        Ok(Err(EngineError::Device { message })) if is_out_of_memory(&message) => message,
        Ok(result) => return result,
        Err(panic) => match panic_message(&*panic) {
            Some(message) if is_out_of_memory(message) => message.to_owned(),
            _ => resume_unwind(panic),
        },
    };
    tracing::warn!(message, "out of device memory; the request failed");
    if let Err(error) = engine.forget() {
        panic!("the device failed after it ran out of memory: {error}");
    }
    Err(EngineError::DeviceMemory)
}

/// The message of a panic.
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
    fn what_a_panic_said_is_read_from_either_kind_of_text() {
        let said = |panic: Box<dyn Any + Send>| panic_message(&*panic).map(str::to_owned);
        assert_eq!(said(Box::new("literal")), Some("literal".to_owned()));
        assert_eq!(said(Box::new(format!("{}", 7))), Some("7".to_owned()));
        assert_eq!(said(Box::new(7)), None);
    }
}
