//! The events of an answer (started, deltas, finished) and the bounded channel that carries them to the caller.

use std::time::{Duration, Instant};

use ragweave_engine::{FinishReason, FuseReport, TokenLogprob};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

use super::error::AnswerError;
use super::passage::Passage;

/// Events that a slow reader may leave unread before decoding waits for it.
const UNREAD_EVENTS: usize = 32;
/// A reader that reads nothing for this long is given up.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// One step of an answer: one `Started`, any number of `Delta`s, one `Finished`.
#[derive(Debug, Clone)]
pub enum AnswerEvent {
    Started(Box<Started>),
    Delta(Delta),
    Finished(Finished),
}

/// The first token exists; this is what it was made from.
#[derive(Debug, Clone)]
pub struct Started {
    pub request_id: String,
    /// In prompt order.
    pub sources: Vec<Passage>,
    /// Found, but too long for the context window; best first.
    pub dropped: Vec<Passage>,
    pub report: FuseReport,
    /// Whether stored KV was looked up at all; a full prefill looks nothing up.
    pub looked_up: bool,
    /// Why this is a full prefill although a mode with stored KV was requested.
    pub fallback_reason: Option<String>,
    /// The forecast, if the controller chose the plan.
    pub foreseen: Option<Foreseen>,
}

/// Why the controller chose a plan, and what it expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreseen {
    pub reason: String,
    /// From the call of `answer` to the first token; compare with [`StageTimes::ttft`].
    pub ttft: Duration,
    /// The candidate plans with their predicted times in the engine, the chosen one first.
    pub candidates: Vec<(String, Duration)>,
}

/// A piece of the answer.
#[derive(Debug, Clone)]
pub struct Delta {
    pub text: String,
    pub token_ids: Vec<u32>,
    pub logprobs: Vec<TokenLogprob>,
}

/// Why the answer ended, and what it cost.
#[derive(Debug, Clone)]
pub struct Finished {
    pub reason: FinishReason,
    pub usage: Usage,
    pub times: StageTimes,
}

/// Token counts of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: usize,
    /// Prompt tokens from stored KV or the prefix cache.
    pub cached_tokens: usize,
    pub completion_tokens: usize,
}

/// Where the time of one answer went. Loading overlaps with computing, so only its `load_wait` adds to `ttft`.
#[derive(Debug, Clone, Copy, Default)]
pub struct StageTimes {
    pub queue: Duration,
    pub embed: Duration,
    pub search: Duration,
    pub load: Duration,
    pub load_wait: Duration,
    /// Computation that the policy needs before it can choose rows.
    pub probe: Duration,
    pub recompute: Duration,
    pub first_decode: Duration,
    pub decode: Duration,
    /// From the call of `answer` to the first token.
    pub ttft: Duration,
    pub total: Duration,
}

/// A whole answer, for callers that do not stream.
#[derive(Debug, Clone)]
pub struct Answer {
    pub text: String,
    pub token_ids: Vec<u32>,
    pub started: Started,
    pub finished: Finished,
}

/// The sending end of an answer's events.
#[derive(Debug, Clone)]
pub struct EventSender {
    channel: mpsc::Sender<AnswerEvent>,
    /// The reader must have read the whole answer by then: a slow reader occupies a place that others wait for.
    deadline: Option<Instant>,
}

/// A bounded channel for one answer, which must be read by `deadline`.
pub fn event_channel(deadline: Option<Instant>) -> (EventSender, mpsc::Receiver<AnswerEvent>) {
    let (channel, receiver) = mpsc::channel(UNREAD_EVENTS);
    (EventSender { channel, deadline }, receiver)
}

impl EventSender {
    /// Sends an event to the reader. Waits for a slow reader until the deadline, but at most [`STALL_LIMIT`].
    pub(super) async fn send(&self, event: AnswerEvent) -> Result<(), AnswerError> {
        let event = match self.channel.try_send(event) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(AnswerError::CallerGone),
            Err(TrySendError::Full(event)) => event,
        };
        let left = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let patience = left.map_or(STALL_LIMIT, |left| left.min(STALL_LIMIT));
        match timeout(patience, self.channel.send(event)).await {
            Ok(sent) => sent.map_err(|_| AnswerError::CallerGone),
            Err(_) if patience < STALL_LIMIT => Err(AnswerError::ReaderTooSlow),
            Err(_) => Err(AnswerError::CallerGone),
        }
    }

    /// The result of `work`, unless the reader goes away first.
    pub(super) async fn while_read<T, E: Into<AnswerError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, AnswerError> {
        tokio::select! {
            biased;
            () = self.channel.closed() => Err(AnswerError::CallerGone),
            done = work => done.map_err(Into::into),
        }
    }
}

impl StageTimes {
    /// How long the answer occupied the engine.
    pub(super) fn in_engine(&self) -> Duration {
        self.load_wait + self.probe + self.recompute + self.first_decode + self.decode
    }
}

impl Answer {
    /// Reads events to the end of the channel; `None` if the answer broke off.
    pub(super) async fn collect(mut events: mpsc::Receiver<AnswerEvent>) -> Option<Self> {
        let (mut text, mut token_ids) = (String::new(), Vec::new());
        let (mut started, mut finished) = (None, None);
        while let Some(event) = events.recv().await {
            match event {
                AnswerEvent::Started(event) => started = Some(*event),
                AnswerEvent::Delta(delta) => {
                    text.push_str(&delta.text);
                    token_ids.extend(delta.token_ids);
                }
                AnswerEvent::Finished(event) => finished = Some(event),
            }
        }
        Some(Self {
            text,
            token_ids,
            started: started?,
            finished: finished?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta() -> AnswerEvent {
        AnswerEvent::Delta(Delta {
            text: "x".to_owned(),
            token_ids: vec![1],
            logprobs: Vec::new(),
        })
    }

    #[tokio::test]
    async fn a_reader_that_trickles_is_given_up_at_the_deadline() {
        let deadline = Instant::now() + Duration::from_millis(50);
        let (sender, mut receiver) = event_channel(Some(deadline));
        let reading = tokio::spawn(async move {
            while receiver.recv().await.is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let error = loop {
            if let Err(error) = sender.send(delta()).await {
                break error;
            }
        };
        assert!(matches!(error, AnswerError::ReaderTooSlow), "{error}");
        drop(sender);
        reading.await.unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_keeps_up_hears_the_end_after_the_deadline_too() {
        let (sender, mut receiver) = event_channel(Some(Instant::now()));
        sender.send(delta()).await.unwrap();
        assert!(receiver.recv().await.is_some());
        drop(receiver);
        let error = sender.send(delta()).await.unwrap_err();
        assert!(matches!(error, AnswerError::CallerGone), "{error}");
    }
}
