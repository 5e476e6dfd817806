//! The stream of one Generate: the pipeline runs as a task, the stream passes its events on. Dropping the stream
//! drops the events' receiver, which ends the task, its engine work and its permit; planning that has begun is waited
//! for first, so that a client that sends and resets cannot have more prompts planned than there are places.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ragweave_proto::v1;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep_until};
use tokio_stream::Stream;
use tonic::Status;

use super::admission::{Ending, Permit};
use super::{Service, sendable};
use crate::convert;
use crate::pipeline::{AnswerError, AnswerEvent, EventSender, Query, event_channel};
use crate::status::Problem;

/// After its deadline the task has this long to say so itself; it cannot where its planning hangs.
const GRACE: Duration = Duration::from_secs(1);

/// Events of one answer, and at the end its error if it has one.
pub struct AnswerStream {
    events: mpsc::Receiver<AnswerEvent>,
    started: Instant,
    /// When the task is not waited for any longer.
    end: Option<Pin<Box<Sleep>>>,
    /// `None` once its outcome was passed on.
    task: Option<JoinHandle<Result<(), AnswerError>>>,
    max_message_bytes: usize,
}

impl AnswerStream {
    pub(super) fn start(service: Service, query: Query, permit: Permit) -> Self {
        let (sender, events) = event_channel(query.deadline);
        let end = |deadline: Instant| Box::pin(sleep_until((deadline + GRACE).into()));
        Self {
            max_message_bytes: service.components().config.limits.max_message_bytes,
            events,
            started: Instant::now(),
            end: query.deadline.map(end),
            task: Some(tokio::spawn(run(service, query, permit, sender))),
        }
    }

    /// The next event, or the task's outcome.
    fn poll_task(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<v1::GenerateResponse, Status>>> {
        match ready!(self.events.poll_recv(context)) {
            Some(event) => Poll::Ready(Some(self.message(event))),
            None => self.poll_outcome(context).map(|status| status.map(Err)),
        }
    }

    /// The event as a message; the sources it names were kept within the limit before they were used.
    fn message(&self, event: AnswerEvent) -> Result<v1::GenerateResponse, Status> {
        let message = convert::event(event);
        let remedy = "ask for fewer chunks, or";
        Ok(sendable::checked(message, self.max_message_bytes, remedy)?)
    }

    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Option<Status>> {
        let Some(task) = &mut self.task else {
            return Poll::Ready(None);
        };
        let outcome = ready!(Pin::new(task).poll(context));
        self.task = None;
        let problem = match outcome {
            Ok(Ok(())) => return Poll::Ready(None),
            Ok(Err(error)) => Problem::from(error),
            Err(panic) => Problem::internal(panic),
        };
        Poll::Ready(Some(problem.into_status()))
    }
}

impl Stream for AnswerStream {
    type Item = Result<v1::GenerateResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(item) = self.poll_task(context) {
            return Poll::Ready(item);
        }
        let Some(end) = &mut self.end else {
            return Poll::Pending;
        };
        ready!(end.as_mut().poll(context));
        // What is heard no more stops the task as soon as it can; nobody waits for it.
        self.events.close();
        (self.task, self.end) = (None, None);
        let problem = Problem::too_late(self.started.elapsed());
        Poll::Ready(Some(Err(problem.into_status())))
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
        outcome = service.shared.pipeline.answer(query, &sender) => outcome.map(drop),
        () = service.shared.stopping.cancelled() => Err(AnswerError::ShuttingDown),
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
