//! A call that sends one response. It has a place and a deadline.

use std::time::Instant;

use tokio::time::timeout_at;

use super::admission::Permit;
use crate::problem::Problem;

/// A call that was admitted.
pub(crate) struct Call {
    permit: Permit,
    deadline: Instant,
    started: Instant,
}

impl Call {
    pub(crate) fn new(permit: Permit, deadline: Instant) -> Self {
        Self {
            permit,
            deadline,
            started: Instant::now(),
        }
    }

    /// Does the work, until the deadline. The work runs as a separate task and keeps its place until it has ended, even
    /// if the caller has gone or the deadline has passed.
    ///
    /// # Errors
    /// Those of the work; the deadline has passed; the work panicked.
    pub(crate) async fn run<T: Send + 'static, E: Into<Problem> + Send + 'static>(
        self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, Problem> {
        let Self {
            permit,
            deadline,
            started,
        } = self;
        let working = tokio::spawn(async move {
            let _permit = permit;
            work.await
        });
        match timeout_at(deadline.into(), working).await {
            Ok(Ok(done)) => done.map_err(Into::into),
            Ok(Err(panic)) => Err(Problem::internal(panic)),
            Err(_) => Err(Problem::too_late(started.elapsed())),
        }
    }
}
