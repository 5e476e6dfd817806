//! The record of one answer: the query, its layout and plan, the report of the prefill, the tokens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ragweave_engine::{FinishReport, FuseReport, FuseRequest, FusionPlan, Tier};

use super::event::{AnswerEvent, Finished, Foreseen, StageTimes, Started, Usage};
use super::layout::Layout;
use super::open::Opened;
use super::passage::Passage;
use super::query::Query;
use crate::controller::{Choice, Forecast};
use crate::verify::Gate;

/// A query in the mode that the gate allows.
pub(super) struct Asked {
    pub(super) query: Arc<Query>,
    arrived: Instant,
    /// Why this is not the mode that the query asked for.
    fallback_reason: Option<String>,
}

/// An answer before its prefill.
pub(super) struct Planned {
    pub(super) asked: Asked,
    pub(super) layout: Layout,
    pub(super) plan: FusionPlan,
    /// Where each chunk's KV is stored.
    pub(super) tiers: Vec<Option<Tier>>,
    /// The forecast, if the controller chose the plan.
    foreseen: Option<Foreseen>,
    /// Passages, by index, that were looked up and have no usable KV.
    misses: Vec<usize>,
}

/// An answer from its first token on.
pub(super) struct Record {
    pub(super) planned: Planned,
    /// Of the prefill.
    pub(super) report: FuseReport,
    ttft: Duration,
    /// The answer so far.
    pub(super) tokens: Vec<u32>,
}

impl Asked {
    /// A query that arrives now. Its mode becomes full prefill if the gate does not allow the requested one.
    pub(super) fn now(mut query: Query, gate: &Gate) -> Self {
        let arrived = Instant::now();
        let (mode, fallback_reason) = gate.pass(query.mode);
        query.mode = mode;
        Self {
            query: Arc::new(query),
            arrived,
            fallback_reason,
        }
    }
}

impl Planned {
    /// The plan, and the request that carries it out. `queue` is the predicted wait for the engine.
    pub(super) fn new(
        asked: Asked,
        layout: Layout,
        opened: Opened,
        queue: Duration,
    ) -> (Self, FuseRequest) {
        let elapsed = asked.arrived.elapsed();
        let foreseen = |choice: &Choice| foreseen(choice, elapsed + queue);
        let planned = Self {
            asked,
            layout,
            plan: opened.request.plan.clone(),
            tiers: opened.tiers,
            foreseen: opened.choice.as_ref().map(foreseen),
            misses: opened.misses,
        };
        (planned, opened.request)
    }

    /// The answer has its first token.
    pub(super) fn prefilled(self, report: FuseReport) -> Record {
        Record {
            ttft: self.asked.arrived.elapsed(),
            planned: self,
            report,
            tokens: Vec::new(),
        }
    }
}

impl Record {
    /// Passages without usable KV: those for which none was found, then those whose KV turned out to be bad while it
    /// was loaded.
    pub(super) fn missed(&self) -> impl Iterator<Item = &Passage> {
        let Planned { layout, misses, .. } = &self.planned;
        let indices = misses.iter().chain(&self.report.failed_chunks);
        indices.filter_map(|&index| layout.passages.get(index))
    }

    pub(super) fn started(&self) -> AnswerEvent {
        let Planned {
            asked,
            layout,
            plan,
            foreseen,
            ..
        } = &self.planned;
        AnswerEvent::Started(Box::new(Started {
            request_id: asked.query.request_id.clone(),
            sources: layout.passages.clone(),
            dropped: layout.dropped.clone(),
            report: self.report.clone(),
            looked_up: plan.mode().reads_kv(),
            fallback_reason: asked.fallback_reason.clone(),
            foreseen: foreseen.clone(),
        }))
    }

    /// The answer has ended now.
    pub(super) fn finished(&self, end: &FinishReport) -> Finished {
        let report = &self.report;
        let usage = Usage {
            prompt_tokens: report.prompt_tokens,
            cached_tokens: report.tokens_loaded + report.prefix_tokens_cached,
            completion_tokens: end.completion_tokens,
        };
        Finished {
            reason: end.reason,
            usage,
            times: self.times(end.decode),
        }
    }

    fn times(&self, decode: Duration) -> StageTimes {
        let (find, fuse) = (self.planned.layout.times, &self.report.timings);
        StageTimes {
            queue: fuse.queue,
            embed: find.embed,
            search: find.search,
            load: fuse.load,
            load_wait: fuse.load_wait,
            probe: fuse.probe,
            recompute: fuse.recompute,
            first_decode: fuse.first_decode,
            decode,
            ttft: self.ttft,
            total: self.planned.asked.arrived.elapsed(),
        }
    }
}

/// `before` is the time from the arrival of the query until the engine takes it.
fn foreseen(choice: &Choice, before: Duration) -> Foreseen {
    let time =
        |forecast: &Forecast| Duration::try_from_secs_f64(forecast.seconds).unwrap_or_default();
    let candidates = choice.candidates.iter();
    Foreseen {
        reason: choice.reason.clone(),
        ttft: before + time(&choice.forecast),
        candidates: candidates
            .map(|(name, forecast)| (name.clone(), time(forecast)))
            .collect(),
    }
}
