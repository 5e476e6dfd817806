//! Standard output that may be closed at any time.

use std::fmt;
use std::io::{self, Write as _};

/// Prints a line like `println!`, but ends the process quietly where that would panic: when standard output is no
/// longer read, as in `ragweave store stats | head -1`.
macro_rules! say {
    () => { $crate::cli::output::write_out(format_args!("\n")) };
    ($($args:tt)*) => { $crate::cli::output::write_out(format_args!("{}\n", format_args!($($args)*))) };
}

/// Exit code of a program whose output is no longer read: 128 + SIGPIPE, as shells report it.
const OUTPUT_CLOSED: i32 = 141;

/// Writes to standard output at once; ends the process if it is closed.
pub(crate) fn write_out(text: fmt::Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_fmt(text).and_then(|()| stdout.flush());
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            std::process::exit(OUTPUT_CLOSED);
        }
        Err(error) => tracing::warn!(%error, "standard output cannot be written"),
    }
}
