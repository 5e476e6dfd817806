//! Runs work that may block (disk, index, tokenizer) outside the async threads.

use tokio::task::{JoinHandle, spawn_blocking};

/// The work panicked, which is a bug in ragweave.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Panicked(String);

/// Work that has begun. It runs to its end even if its result is never awaited.
pub(crate) struct Begun<T, E>(JoinHandle<Result<T, E>>);

/// Begins work on the blocking pool.
pub(crate) fn begin<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Begun<T, E> {
    Begun(spawn_blocking(work))
}

/// Runs work on the blocking pool and waits for its result.
///
/// # Errors
/// Those of the work, and [`Panicked`].
pub(crate) async fn run<T: Send + 'static, E: From<Panicked> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    begin(work).join().await
}

impl<T, E: From<Panicked>> Begun<T, E> {
    /// Waits for the result.
    ///
    /// # Errors
    /// Those of the work, and [`Panicked`].
    pub(crate) async fn join(self) -> Result<T, E> {
        let done = self.0.await;
        done.unwrap_or_else(|panic| Err(Panicked(panic.to_string()).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error() {
        let done = run(|| Ok::<_, Panicked>(7)).await;
        assert_eq!(done.unwrap(), 7);
        let panicked = run(|| -> Result<(), Panicked> { panic!("lost") }).await;
        assert!(panicked.unwrap_err().to_string().contains("panic"));
    }
}
