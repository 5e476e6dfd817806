//! The signals that ask a process to stop: SIGTERM, and Ctrl-C or SIGINT.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from its creation on; a signal between two waits is not lost.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Where the system takes no handler.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
