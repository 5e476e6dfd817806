//! The course of a request on one screen: [`Pipeline::answer`]. The RPC handler and `ragweave-eval` both call this
//! function, so what is measured is what is served. Nothing here depends on a wire format.

use std::sync::Arc;

use ragweave_engine::{EngineError, EngineHandle, FinishReport, Generation, TokenEvent};

mod backfill;
mod error;
mod event;
mod find;
mod layout;
mod observers;
mod open;
mod passage;
mod planner;
mod query;
mod record;
mod room;
mod shadow;

pub use backfill::FillCounts;
pub use error::AnswerError;
pub use event::{
    Answer, AnswerEvent, Delta, EventSender, Finished, Foreseen, StageTimes, Started, Usage,
    event_channel,
};
pub use layout::Layout;
pub use passage::Passage;
pub use query::{Context, Query, Search};
pub use shadow::ShadowCounts;

use crate::blocking;
use crate::components::Components;
use crate::config::ModeKind;
use crate::controller::Controller;
use crate::fingerprint::fingerprint;
use crate::verify::Gate;
use backfill::Backfill;
use observers::Observers;
use planner::Planner;
use record::{Asked, Planned};
use shadow::Shadow;

/// Answers queries over one corpus with one model. Cheap to share in an `Arc`.
pub struct Pipeline {
    planner: Arc<Planner>,
    engine: EngineHandle,
    gate: Gate,
    observers: Observers,
}

impl Pipeline {
    /// A pipeline over opened components. Must be called within a tokio runtime: missing KV is computed by a separate
    /// task. If the data directory holds a fusion verdict, requests that it does not allow run as full prefill.
    pub fn new(components: &Components) -> Self {
        let fingerprint = fingerprint(&components.engine);
        let fusion = &components.config.fusion;
        let gate = Gate::read(&components.config.data, &fingerprint, &fusion.to_choice());
        let controller = Arc::new(Controller::open(components));
        let may_blend = gate.pass(fusion.to_choice()).1.is_none();
        if fusion.mode == ModeKind::Auto && may_blend {
            let (controller, engine) = (Arc::clone(&controller), components.engine.clone());
            let blend = fusion.to_auto().blend;
            tokio::spawn(async move { controller.calibrate(&engine, &blend).await });
        }
        let shadow_share = components.config.telemetry.shadow_full;
        Self::with(components, gate, shadow_share, Some(controller))
    }

    /// Like [`Pipeline::new`], but for measuring: every query runs in the mode it asks for, and nothing is compared in
    /// the background.
    pub fn for_evaluation(components: &Components) -> Self {
        Self::with(components, Gate::Open, 0.0, None)
    }

    fn with(
        components: &Components,
        gate: Gate,
        shadow_share: f64,
        controller: Option<Arc<Controller>>,
    ) -> Self {
        let planner = Arc::new(Planner::new(components, controller.clone()));
        let observers = Observers {
            controller,
            backfill: Backfill::start(components.clone()),
            shadow: Shadow::start(Arc::clone(&planner), shadow_share),
        };
        Self {
            planner,
            engine: components.engine.clone(),
            gate,
            observers,
        }
    }

    /// Answers one query. This function is the system; everything else is a detail of one line of it.
    ///
    /// Dropping the receiver of `events` stops the work within one decode step, except for the planning: work that has
    /// begun on the blocking pool cannot be stopped, and the future ends only after that work does, so the answer
    /// counts as running until then.
    ///
    /// # Errors
    /// [`AnswerError`]. Missing, corrupt or foreign KV is never one: such a chunk is computed instead.
    pub async fn answer(
        &self,
        query: Query,
        events: &EventSender,
    ) -> Result<Finished, AnswerError> {
        let asked = Asked::now(query, &self.gate);
        let plan = |planner: &Planner, query: &Query| {
            let found = planner.find(query)?; // passages, best first, or the chunks that the query names
            let layout = planner.lay_out(query, found)?; // prefix | passages | question; what does not fit is dropped
            let opened = planner.open(query, &layout)?; // each passage a hit or a miss; no KV has been read yet
            Ok((layout, opened))
        };
        let (layout, mut opened) = self.off_thread(Arc::clone(&asked.query), plan).await?;
        let mut observers = self.observers.watch(opened.unread.take());
        let (planned, request) = Planned::new(asked, layout, opened, observers.queue());
        // Layer by layer: blend hits, compute misses; a bad block replans.
        let mut generation = events.while_read(self.engine.fuse(request)).await?;
        let mut record = planned.prefilled(generation.report.clone());
        observers.first_token(&record);
        events.send(record.started()).await?;
        observers.started(&record);
        // Decode until a stop condition.
        let end = relay(&mut generation, events, &mut record.tokens).await?;
        let finished = record.finished(&end);
        observers.last_token(&finished.times);
        events.send(AnswerEvent::Finished(finished.clone())).await?;
        observers.finished(record);
        Ok(finished)
    }

    /// Answers one query and collects the events, for callers that do not stream.
    ///
    /// # Errors
    /// As [`Pipeline::answer`].
    pub async fn answer_whole(&self, query: Query) -> Result<Answer, AnswerError> {
        let (sender, receiver) = event_channel(query.deadline);
        let answering = async {
            let finished = self.answer(query, &sender).await;
            drop(sender); // ends the collection below
            finished
        };
        let (finished, answer) = tokio::join!(answering, Answer::collect(receiver));
        finished?;
        answer.ok_or_else(|| AnswerError::internal("an answer ended without its last event"))
    }

    /// The passages [`Pipeline::answer`] would start from, before any is dropped for length.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub async fn retrieve(&self, query: Query) -> Result<Vec<Passage>, AnswerError> {
        let find = |planner: &Planner, query: &Query| {
            let passages = planner.find(query)?.passages;
            Ok(layout::in_prompt_order(query, passages))
        };
        self.off_thread(Arc::new(query), find).await
    }

    /// Counts of the KV computed in the background after misses; changes can be awaited.
    pub fn fills(&self) -> tokio::sync::watch::Receiver<FillCounts> {
        self.observers.backfill.counts()
    }

    /// Counts of the answers compared with full prefill; changes can be awaited.
    pub fn shadows(&self) -> tokio::sync::watch::Receiver<ShadowCounts> {
        self.observers.shadow.counts()
    }

    /// Writes what the controller has learned. Called at the end of serving. Blocks.
    pub fn write_rates(&self) {
        if let Some(controller) = &self.observers.controller {
            controller.write();
        }
    }

    /// Runs what may block (embedding, index, RocksDB, tokenizer) on the blocking pool.
    async fn off_thread<T: Send + 'static>(
        &self,
        query: Arc<Query>,
        work: impl FnOnce(&Planner, &Query) -> Result<T, AnswerError> + Send + 'static,
    ) -> Result<T, AnswerError> {
        let planner = Arc::clone(&self.planner);
        blocking::run(move || work(&planner, &query)).await
    }
}

/// Forwards the pieces of the answer until the engine reports why it ended, and adds their tokens to `answered`.
async fn relay(
    generation: &mut Generation,
    events: &EventSender,
    answered: &mut Vec<u32>,
) -> Result<FinishReport, AnswerError> {
    while let Some(event) = generation.next().await {
        match event? {
            TokenEvent::Delta {
                text,
                token_ids,
                logprobs,
            } => {
                answered.extend(&token_ids);
                let delta = Delta {
                    text,
                    token_ids,
                    logprobs,
                };
                events.send(AnswerEvent::Delta(delta)).await?;
            }
            TokenEvent::Finished(report) => return Ok(report),
        }
    }
    let message = "the engine stopped in the middle of an answer".to_owned();
    Err(EngineError::Unavailable { message }.into())
}
