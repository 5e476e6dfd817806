//! One answer as a stream of events: the pipeline runs as a task, and the stream forwards its events. Dropping the
//! stream drops the events' receiver, which ends the task and its engine work and returns its permit. Planning that has
//! begun is finished first, so that a client that sends and resets cannot have more prompts planned than there are
//! places.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep_until};
use tokio_stream::Stream;

use super::Service;
use super::admission::{Ending, Permit};
use crate::pipeline::{AnswerError, AnswerEvent, EventSender, Query, event_channel};
use crate::problem::Problem;

/// After the deadline the task has this long to report that itself; it cannot if its planning hangs.
const GRACE: Duration = Duration::from_secs(1);

/// The events of one answer, then its problem if it failed.
pub(crate) struct Answering {
    events: mpsc::Receiver<AnswerEvent>,
    started: Instant,
    /// After this time the stream no longer waits for the task.
    end: Option<Pin<Box<Sleep>>>,
    /// `None` once its outcome has been passed on.
    task: Option<JoinHandle<Result<(), AnswerError>>>,
}

impl Service {
    /// Answers a query; one without an id gets one. Must be called within a tokio runtime.
    pub(crate) fn answer(&self, mut query: Query, permit: Permit) -> Answering {
        if query.request_id.is_empty() {
            query.request_id = self.next_request_id();
        }
        let (sender, events) = event_channel(query.deadline);
        let end = |deadline: Instant| Box::pin(sleep_until((deadline + GRACE).into()));
        Answering {
            events,
            started: Instant::now(),
            end: query.deadline.map(end),
            task: Some(tokio::spawn(run(self.clone(), query, permit, sender))),
        }
    }
}

impl Answering {
    /// The next event, or the task's outcome.
    fn poll_task(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<AnswerEvent, Problem>>> {
        match ready!(self.events.poll_recv(context)) {
            Some(event) => Poll::Ready(Some(Ok(event))),
            None => self.poll_outcome(context).map(|problem| problem.map(Err)),
        }
    }

    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Option<Problem>> {
        let Some(task) = &mut self.task else {
            return Poll::Ready(None);
        };
        let outcome = ready!(Pin::new(task).poll(context));
        self.task = None;
        Poll::Ready(match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.into()),
            Err(panic) => Some(Problem::internal(panic)),
        })
    }
}

impl Stream for Answering {
    type Item = Result<AnswerEvent, Problem>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(item) = self.poll_task(context) {
            return Poll::Ready(item);
        }
        let Some(end) = &mut self.end else {
            return Poll::Pending;
        };
        ready!(end.as_mut().poll(context));
        // A task whose events are no longer read stops as soon as it can; its handle is dropped without waiting.
        self.events.close();
        (self.task, self.end) = (None, None);
        Poll::Ready(Some(Err(Problem::too_late(self.started.elapsed()))))
    }
}

async fn run(
    service: Service,
    query: Query,
    permit: Permit,
    sender: EventSender,
) -> Result<(), AnswerError> {
    let request_id = query.request_id.clone();
    let outcome = tokio::select! {
        outcome = service.pipeline().answer(query, &sender) => outcome.map(drop),
        () = service.stopped() => Err(AnswerError::ShuttingDown),
    };
    permit.end(match &outcome {
        Ok(()) => Ending::Answered,
        Err(AnswerError::CallerGone) => Ending::Cancelled,
        Err(_) => Ending::Failed,
    });
    match &outcome {
        Ok(()) => tracing::debug!(request_id, "answered"),
        Err(error) => tracing::info!(request_id, %error, "no answer"),
    }
    outcome
}
