//! Reads one buffer as several concurrent pieces, with `io_uring`. Each thread has its own ring, made
//! at its first read; the engine's reader threads run as long as the engine does.
//!
//! Invariant: no read is in flight when a function of this file returns, because each read writes
//! into a buffer that is only borrowed.

use std::io;

/// An error of kind `Unsupported` that says why there is no ring.
fn no_ring(error: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, error)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn probe() -> io::Result<()> {
    Err(no_ring(io::Error::other("it exists only on Linux")))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn read_at(_: &fs_err::File, _: &mut [u8], _: u64) -> io::Result<()> {
    probe()
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{probe, read_at};

#[cfg(target_os = "linux")]
mod linux {
    use std::cell::RefCell;
    use std::io;
    use std::os::fd::AsRawFd as _;

    use io_uring::{IoUring, opcode, types};

    use super::no_ring;

    /// Reads in flight at once.
    const QUEUE_DEPTH: usize = 16;
    /// Size of one read in bytes.
    const PIECE_BYTES: usize = 256 << 10;

    thread_local! {
        static RING: RefCell<Option<IoUring>> = const { RefCell::new(None) };
    }

    /// Whether this thread may use `io_uring`.
    ///
    /// # Errors
    /// Of kind `Unsupported`, with the reason.
    pub(crate) fn probe() -> io::Result<()> {
        with_ring(|_| Ok(()))
    }

    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// Of kind `Unsupported` if there is no ring, `UnexpectedEof` if the file is too short, otherwise
    /// the error of the first read that failed.
    pub(crate) fn read_at(file: &fs_err::File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        with_ring(|ring| Reading::new(ring, file, bytes, offset).run())
    }

    fn with_ring(work: impl FnOnce(&mut IoUring) -> io::Result<()>) -> io::Result<()> {
        RING.with_borrow_mut(|slot| {
            if slot.is_none() {
                let ring = IoUring::new(QUEUE_DEPTH as u32).map_err(no_ring)?;
                *slot = Some(ring);
            }
            slot.as_mut().map_or(Ok(()), work)
        })
    }

    /// A part of the buffer that has yet to be read.
    #[derive(Clone, Copy)]
    struct Piece {
        start: usize,
        end: usize,
    }

    /// The reads of one buffer.
    struct Reading<'a> {
        ring: &'a mut IoUring,
        file: types::Fd,
        bytes: &'a mut [u8],
        offset: u64,
        /// Everything before this byte has been assigned to a piece.
        cut: usize,
        /// Pieces in flight, by the number that the kernel returns.
        flying: [Option<Piece>; QUEUE_DEPTH],
        failure: Option<io::Error>,
    }

    impl<'a> Reading<'a> {
        fn new(
            ring: &'a mut IoUring,
            file: &fs_err::File,
            bytes: &'a mut [u8],
            offset: u64,
        ) -> Self {
            Self {
                ring,
                file: types::Fd(file.as_raw_fd()),
                bytes,
                offset,
                cut: 0,
                flying: [None; QUEUE_DEPTH],
                failure: None,
            }
        }

        fn run(mut self) -> io::Result<()> {
            loop {
                self.fill();
                if self.flying.iter().all(Option::is_none) {
                    return self.failure.map_or(Ok(()), Err);
                }
                self.wait();
                self.reap();
            }
        }

        /// Queues new pieces while the queue has free places.
        fn fill(&mut self) {
            while self.failure.is_none()
                && self.cut < self.bytes.len()
                && let Some(slot) = self.flying.iter().position(Option::is_none)
            {
                let end = self.bytes.len().min(self.cut + PIECE_BYTES);
                let piece = Piece {
                    start: self.cut,
                    end,
                };
                self.cut = end;
                self.push(slot, piece);
            }
        }

        #[expect(unsafe_code, reason = "the kernel is given the address of the buffer")]
        fn push(&mut self, slot: usize, piece: Piece) {
            let part = &mut self.bytes[piece.start..piece.end];
            // Lossless: a piece is at most `PIECE_BYTES` long.
            let read = opcode::Read::new(self.file, part.as_mut_ptr(), part.len() as u32)
                .offset(self.offset + piece.start as u64)
                .build()
                .user_data(slot as u64);
            // SAFETY: the buffer is borrowed for `'a`, nothing else accesses it meanwhile, and `run`
            // does not return before this read has completed.
            let pushed = unsafe { self.ring.submission().push(&read) };
            match pushed {
                Ok(()) => self.flying[slot] = Some(piece),
                Err(error) => self.failure = Some(io::Error::other(error)),
            }
        }

        /// Submits what was pushed and waits for a completion.
        fn wait(&self) {
            let Err(error) = self.ring.submit_and_wait(1) else {
                return;
            };
            let passes = [
                io::ErrorKind::Interrupted,
                io::ErrorKind::ResourceBusy,
                io::ErrorKind::WouldBlock,
                io::ErrorKind::OutOfMemory,
            ];
            if !passes.contains(&error.kind()) {
                // The kernel may still write into the buffer and cannot say when it is done, so
                // returning would be unsound.
                tracing::error!(%error, "io_uring failed while reads were in flight");
                std::process::abort();
            }
        }

        /// Processes the completions.
        fn reap(&mut self) {
            let done: Vec<(u64, i32)> = self
                .ring
                .completion()
                .map(|entry| (entry.user_data(), entry.result()))
                .collect();
            for (slot, result) in done {
                // Lossless: these are the numbers that `push` passed.
                let slot = slot as usize;
                let Some(mut piece) = self.flying[slot].take() else {
                    continue;
                };
                match usize::try_from(result) {
                    Ok(0) => self.fail(io::ErrorKind::UnexpectedEof.into()),
                    Ok(n) => piece.start += n,
                    Err(_) => {
                        let error = io::Error::from_raw_os_error(result.saturating_neg());
                        if !is_transient(&error) {
                            self.fail(error);
                        }
                    }
                }
                if piece.start < piece.end && self.failure.is_none() {
                    self.push(slot, piece); // the rest of a short read, or a retry
                }
            }
        }

        fn fail(&mut self, error: io::Error) {
            self.failure.get_or_insert(error);
        }
    }

    fn is_transient(error: &io::Error) -> bool {
        matches!(
            error.kind(),
            io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
        )
    }
}
