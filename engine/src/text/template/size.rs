//! How much our own filters and methods may write. MiniJinja charges fuel for a result after it exists;
//! a result that may be much larger than its input is charged before it is built.

use std::fmt;

use minijinja::{Error, ErrorKind, State, Value};

/// The longest rendered prompt, bytes.
pub(super) const MAX_OUTPUT_BYTES: usize = 16 << 20;

/// Bytes of data that one unit of fuel pays for, as in MiniJinja.
const BYTES_PER_FUEL: usize = 64;

/// Takes the fuel for `n_bytes` of work.
///
/// # Errors
/// [`ErrorKind::OutOfFuel`].
pub(super) fn charge(state: &State, n_bytes: usize) -> Result<(), Error> {
    state.consume_fuel((n_bytes / BYTES_PER_FUEL) as u64)
}

/// Takes the fuel for a result of `n_bytes`, which must not be longer than a whole prompt.
///
/// # Errors
/// [`ErrorKind::OutOfFuel`], [`ErrorKind::WriteFailure`] for a result that is too long.
pub(super) fn charge_result(state: &State, n_bytes: usize) -> Result<(), Error> {
    match n_bytes > MAX_OUTPUT_BYTES {
        true => Err(too_long()),
        false => charge(state, n_bytes),
    }
}

/// The error for a result longer than [`MAX_OUTPUT_BYTES`], the same as for the prompt itself.
fn too_long() -> Error {
    let source = std::io::Error::from(std::io::ErrorKind::FileTooLarge);
    Error::from(ErrorKind::WriteFailure).with_source(source)
}

/// A string that cannot grow beyond [`MAX_OUTPUT_BYTES`]. A value with few parts may print as a
/// string of any length, because a list can hold the same list twice.
#[derive(Debug, Default)]
pub(super) struct Capped(String);

impl Capped {
    /// # Errors
    /// [`ErrorKind::WriteFailure`] when the text becomes too long.
    pub(super) fn push(&mut self, text: &str) -> Result<(), Error> {
        fmt::Write::write_str(self, text).map_err(|_| too_long())
    }

    /// # Errors
    /// [`ErrorKind::WriteFailure`] when the text becomes too long.
    pub(super) fn print(&mut self, value: &Value) -> Result<(), Error> {
        fmt::Write::write_fmt(self, format_args!("{value}")).map_err(|_| too_long())
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

impl fmt::Write for Capped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_OUTPUT_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}
