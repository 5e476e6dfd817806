//! One request's life, on one screen: [`Pipeline::answer`]. The RPC handler and `ragweave-eval` call this very function,
//! so what is measured is what is served. Nothing here knows gRPC.

use std::sync::Arc;
use std::time::Instant;

use ragweave_engine::{
    EngineError, EngineHandle, FinishReport, FuseReport, Generation, TokenEvent,
};

mod backfill;
mod desk;
mod error;
mod event;
mod query;
mod room;
mod shadow;
mod watch;

pub use backfill::FillCounts;
pub use desk::{Layout, Passage};
pub use error::AnswerError;
pub use event::{
    Answer, AnswerEvent, Delta, EventSender, Finished, Foreseen, StageTimes, Started, Usage,
    event_channel,
};
pub(crate) use query::default_max_tokens;
pub use query::{Context, DEFAULT_MAX_TOKENS, Query, Search};
pub use shadow::ShadowCounts;

use crate::components::Components;
use crate::config::ModeKind;
use crate::controller::Controller;
use crate::verify::{self, Gate};
use backfill::{Backfill, Fill};
use desk::{Desk, Opened};
use event::Planned;
use shadow::{Picked, Shadow};
use watch::Watch;

/// Answers queries over one corpus with one model. Cheap to share in an `Arc`.
pub struct Pipeline {
    desk: Arc<Desk>,
    engine: EngineHandle,
    backfill: Backfill,
    gate: Gate,
    shadow: Shadow,
}

impl Pipeline {
    /// A pipeline over opened components. Must be called within a tokio runtime: KV that was missing is
    /// computed by a task of its own. A fusion verdict in the data directory holds: what did not pass is a full prefill.
    pub fn new(components: &Components) -> Self {
        let fingerprint = verify::fingerprint(&components.engine);
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

    /// The same for measuring: every query runs in the mode it asks for, and nothing is compared beside it.
    pub fn for_evaluation(components: &Components) -> Self {
        Self::with(components, Gate::Open, 0.0, None)
    }

    fn with(
        components: &Components,
        gate: Gate,
        shadow_share: f64,
        controller: Option<Arc<Controller>>,
    ) -> Self {
        let desk = Arc::new(Desk::new(components, controller));
        Self {
            engine: components.engine.clone(),
            backfill: Backfill::start(Arc::clone(&desk)),
            shadow: Shadow::start(Arc::clone(&desk), shadow_share),
            gate,
            desk,
        }
    }

    /// Answers one query. This function is the system; everything else is a detail of one line of it.
    ///
    /// Dropping the receiver of `events` stops the work within one decode step, but for the planning: what was begun on
    /// the blocking pool cannot be stopped, and the future ends after it, so that whoever counts answers counts it too.
    ///
    /// # Errors
    /// [`AnswerError`]. Missing, corrupt or foreign KV is never one: such a chunk is computed instead.
    pub async fn answer(
        &self,
        mut query: Query,
        events: &EventSender,
    ) -> Result<Finished, AnswerError> {
        let arrived = Instant::now();
        // Full prefill, where fusing this model's KV is known to go wrong; the controller is not asked then.
        let (mode, fallback_reason) = self.gate.pass(query.mode);
        query.mode = mode;
        let query = Arc::new(query);
        let plan = |desk: &Desk, query: &Query| {
            // Passages, best first; or the chunks that were named.
            let found = desk.find(query)?;
            // Prefix | passages | question in token ids; what does not fit is dropped.
            let layout = desk.lay_out(query, found)?;
            // Each passage a hit or a miss, and a plan for them. No KV has been read yet.
            let opened = desk.open(query, &layout)?;
            Ok((layout, opened))
        };
        let (
            layout,
            Opened {
                request,
                tiers,
                spare,
                choice,
                mut misses,
                ..
            },
        ) = self.off_thread(&query, plan).await?;
        let watch = Watch::start(self.desk.controller.as_ref(), &request.plan, tiers);
        let planned = Planned {
            looked_up: request.plan.mode().reads_kv(),
            fallback_reason,
            foreseen: choice.map(|choice| Foreseen::new(&choice, arrived.elapsed(), watch.queue())),
        };
        // Layer by layer: blend hits, compute misses; a bad block replans.
        let mut generation = events.while_read(self.engine.fuse(request)).await?;
        let ttft = arrived.elapsed();
        let report = generation.report.clone();
        watch.learn(&report);
        let find_times = layout.times;
        misses.extend(failed_fills(&layout, &report));
        let mut shadow = self.shadow.pick(&query, &layout, &report);
        let started = AnswerEvent::started(&query, layout, report.clone(), planned);
        events.send(started).await?;
        // The KV of misses is for the next request: this one has its first token.
        self.backfill.offer(misses);
        // Decode until a stop condition.
        let end = relay(&mut generation, events, &mut shadow).await?;
        watch.end(&report, end.decode, spare);
        let times = StageTimes::new(
            find_times,
            &report.timings,
            end.decode,
            ttft,
            arrived.elapsed(),
        );
        let finished = Finished::new(&report, &end, times);
        events.send(AnswerEvent::Finished(finished.clone())).await?;
        // A share of the answers is compared with full prefill, now that nobody waits for them.
        self.shadow.offer(shadow);
        Ok(finished)
    }

    /// Answers one query and collects the events: for callers that do not stream.
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
        let find = |desk: &Desk, query: &Query| {
            Ok(desk.in_prompt_order(query, desk.find(query)?.passages))
        };
        self.off_thread(&Arc::new(query), find).await
    }

    /// Counts of the KV computed in the background after misses; changes can be awaited.
    pub fn fills(&self) -> tokio::sync::watch::Receiver<FillCounts> {
        self.backfill.counts()
    }

    /// Counts of the answers compared with full prefill; changes can be awaited.
    pub fn shadows(&self) -> tokio::sync::watch::Receiver<ShadowCounts> {
        self.shadow.counts()
    }

    /// Writes what the controller has learned; at the end of serving. Blocks.
    pub fn write_rates(&self) {
        if let Some(controller) = &self.desk.controller {
            controller.write();
        }
    }

    /// Runs what may block (embedding, index, RocksDB, tokenizer) on the blocking pool.
    async fn off_thread<T: Send + 'static>(
        &self,
        query: &Arc<Query>,
        work: impl FnOnce(&Desk, &Query) -> Result<T, AnswerError> + Send + 'static,
    ) -> Result<T, AnswerError> {
        let (desk, query) = (Arc::clone(&self.desk), Arc::clone(query));
        let done = tokio::task::spawn_blocking(move || work(&desk, &query)).await;
        done.unwrap_or_else(|panic| Err(AnswerError::internal(panic.to_string())))
    }
}

/// Passes the answer's pieces on until the engine says why it ended; a picked answer notes its tokens.
async fn relay(
    generation: &mut Generation,
    events: &EventSender,
    shadow: &mut Option<Picked>,
) -> Result<FinishReport, AnswerError> {
    while let Some(event) = generation.next().await {
        match event? {
            TokenEvent::Delta {
                text,
                token_ids,
                logprobs,
            } => {
                if let Some(picked) = shadow {
                    picked.note(&token_ids);
                }
                events
                    .send(AnswerEvent::Delta(Delta {
                        text,
                        token_ids,
                        logprobs,
                    }))
                    .await?;
            }
            TokenEvent::Finished(report) => return Ok(report),
        }
    }
    let message = "the engine stopped in the middle of an answer".to_owned();
    Err(EngineError::Unavailable { message }.into())
}

/// Hits whose stored KV turned out bad while it was loaded: misses after all.
fn failed_fills(layout: &Layout, report: &FuseReport) -> Vec<Fill> {
    let failed = report
        .failed_chunks
        .iter()
        .filter_map(|&chunk| layout.passages.get(chunk));
    failed.map(Fill::of).collect()
}
