//! The client side of a load test: sends each request at its time and records when its tokens come.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ragweave_engine::EngineError;
use ragweave_server::pipeline::{AnswerError, AnswerEvent, Pipeline, Query, event_channel};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::latency::{AnswerTimes, Trace};
use super::schedule::Request;
use crate::dataset::Question;
use crate::metric::ms;
use crate::mode_spec::ModeSpec;
use crate::query::{Asker, lookups};

/// Requests that measure how many the engine answers one by one.
const CAPACITY_REQUESTS: usize = 12;

/// Sends one schedule of requests under any mode and at any rate.
pub(super) struct Client<'a> {
    pub(super) asker: Asker<'a>,
    pub(super) questions: &'a [Question],
    pub(super) requests: Vec<Request>,
}

struct Job {
    index: usize,
    /// After the start.
    at: Duration,
    query: Query,
}

type Outcome = (usize, Result<Trace, AnswerError>);

impl Client<'_> {
    /// The first answers of a process pay for buffers and page faults.
    pub(super) async fn warm_up(&self, specs: &[ModeSpec]) -> anyhow::Result<()> {
        for spec in specs {
            self.ask_alone(spec, 0).await?;
        }
        Ok(())
    }

    /// Answers per second if each question is asked after the previous answer.
    pub(super) async fn capacity(&self, spec: &ModeSpec) -> anyhow::Result<f64> {
        let n = self.requests.len().min(CAPACITY_REQUESTS);
        let start = Instant::now();
        for index in 0..n {
            self.ask_alone(spec, index).await?;
        }
        Ok(n as f64 / start.elapsed().as_secs_f64())
    }

    /// Sends every request at its time, whatever happened to those before. One trace per request; a
    /// full queue is not an error.
    pub(super) async fn offer(
        &self,
        spec: &ModeSpec,
        rate: f64,
        mut done: impl FnMut(),
    ) -> anyhow::Result<Vec<Trace>> {
        let indices = 0..self.requests.len();
        let jobs: Vec<Job> = indices.map(|index| self.job(spec, rate, index)).collect();
        let mut traces: Vec<Option<Trace>> = jobs.iter().map(|_| None).collect();
        let (outcomes, mut ended) = mpsc::unbounded_channel();
        let (runtime, pipeline) = (Handle::current(), Arc::clone(&self.asker.pipeline));
        // Not tokio's timer: it ticks in milliseconds, in which a small model answers.
        let sending = spawn_blocking(move || send(&runtime, &pipeline, jobs, &outcomes));
        while let Some((index, outcome)) = ended.recv().await {
            traces[index] = Some(outcome.with_context(|| self.what(spec, index))?);
            done();
        }
        sending.await?;
        let traces: Option<Vec<Trace>> = traces.into_iter().collect();
        traces.with_context(|| format!("a request under {spec} ended without an outcome"))
    }

    async fn ask_alone(&self, spec: &ModeSpec, index: usize) -> anyhow::Result<()> {
        let query = self.query(spec, index);
        let trace = ask(&self.asker.pipeline, query, Instant::now(), Duration::ZERO).await;
        trace.with_context(|| self.what(spec, index))?;
        Ok(())
    }

    fn job(&self, spec: &ModeSpec, rate: f64, index: usize) -> Job {
        Job {
            index,
            at: Duration::from_secs_f64(self.requests[index].at / rate),
            query: self.query(spec, index),
        }
    }

    fn query(&self, spec: &ModeSpec, index: usize) -> Query {
        let request = &self.requests[index];
        let text = &self.questions[request.question].question;
        let (chunks, mode) = (request.chunks.clone(), spec.mode_for(index));
        self.asker.over_chunks(text, chunks, mode)
    }

    fn what(&self, spec: &ModeSpec, index: usize) -> String {
        let question = &self.questions[self.requests[index].question];
        format!("question {} under {spec}", question.id)
    }
}

/// Starts each job at its time in its own task; ends early when the receiver of outcomes is gone.
fn send(
    runtime: &Handle,
    pipeline: &Arc<Pipeline>,
    jobs: Vec<Job>,
    outcomes: &mpsc::UnboundedSender<Outcome>,
) {
    let start = Instant::now();
    for job in jobs {
        sleep((start + job.at).saturating_duration_since(Instant::now()));
        if outcomes.is_closed() {
            return;
        }
        let (pipeline, outcomes) = (Arc::clone(pipeline), outcomes.clone());
        runtime.spawn(async move {
            let outcome = ask(&pipeline, job.query, start, job.at).await;
            let _ = outcomes.send((job.index, outcome)); // nobody wants it after an error
        });
    }
}

/// Asks now what was to be asked `at` after `start`.
async fn ask(
    pipeline: &Pipeline,
    query: Query,
    start: Instant,
    at: Duration,
) -> Result<Trace, AnswerError> {
    let (sender, mut events) = event_channel(query.deadline);
    let answering = async {
        let finished = pipeline.answer(query, &sender).await;
        drop(sender); // ends the listening below
        finished
    };
    let listening = async {
        let mut heard = Heard::default();
        while let Some(event) = events.recv().await {
            heard.take(&event, start.elapsed());
        }
        heard
    };
    let (finished, heard) = tokio::join!(answering, listening);
    let answer = match finished {
        Ok(finished) => Some(heard.times(at, finished.usage.completion_tokens)),
        Err(AnswerError::Engine(EngineError::QueueFull { .. })) => None,
        Err(error) => return Err(error),
    };
    Ok(Trace {
        at_ms: ms(at),
        answer,
    })
}

/// What the events of an answer said, and when.
#[derive(Default)]
struct Heard {
    tokens: Vec<Duration>,
    end: Duration,
    chunks_missed: usize,
}

impl Heard {
    fn take(&mut self, event: &AnswerEvent, now: Duration) {
        match event {
            AnswerEvent::Started(started) => self.chunks_missed = lookups(started).1,
            // The last piece of text may have no token of its own.
            AnswerEvent::Delta(delta) if delta.token_ids.is_empty() => {}
            AnswerEvent::Delta(_) => self.tokens.push(now),
            AnswerEvent::Finished(_) => self.end = now,
        }
    }

    fn times(self, at: Duration, n_out: usize) -> AnswerTimes {
        AnswerTimes::new(at, &self.tokens, self.end, n_out, self.chunks_missed)
    }
}
