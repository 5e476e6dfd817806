//! The runtimes of the subcommands.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Runs a client subcommand, which needs only one thread.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// A multi-threaded runtime, for a subcommand that opens the model.
pub(super) fn multi_threaded() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}
