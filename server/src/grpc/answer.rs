//! The stream of one Generate: the events of an answer as messages.

use std::pin::Pin;
use std::task::{Context, Poll};

use ragweave_proto::v1;
use tokio_stream::Stream;
use tonic::Status;

use super::{convert, sendable};
use crate::pipeline::AnswerEvent;
use crate::problem::Problem;
use crate::service::Answering;

/// The messages of one answer, then its error if it failed.
pub(super) struct AnswerStream {
    answering: Answering,
    max_message_bytes: usize,
}

impl AnswerStream {
    pub(super) fn new(answering: Answering, max_message_bytes: usize) -> Self {
        Self {
            answering,
            max_message_bytes,
        }
    }

    /// The event as a message. Its sources were kept within the size limit when the prompt was laid out.
    fn message(&self, event: AnswerEvent) -> Result<v1::GenerateResponse, Problem> {
        let message = convert::event(event);
        sendable::checked(message, self.max_message_bytes, "ask for fewer chunks, or")
    }
}

impl Stream for AnswerStream {
    type Item = Result<v1::GenerateResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = Pin::new(&mut self.answering).poll_next(context);
        item.map(|item| item.map(|event| Ok(self.message(event?)?)))
    }
}
