//! The observers of answers: the controller learns from them, the backfill computes the KV they missed, the shadow compares
//! some of them with full prefill. All see one [`Record`], at fixed points of the answer.

use std::sync::Arc;
use std::time::Duration;

use super::backfill::Backfill;
use super::event::StageTimes;
use super::record::{Planned, Record};
use super::shadow::Shadow;
use crate::blocking::{self, Panicked};
use crate::controller::{Controller, Place, UnreadSource};

pub(super) struct Observers {
    /// `None` if every query runs in the mode it asks for.
    pub(super) controller: Option<Arc<Controller>>,
    pub(super) backfill: Backfill,
    pub(super) shadow: Shadow,
}

/// One answer under observation, from the moment its plan is ready.
pub(super) struct Observation<'a> {
    observers: &'a Observers,
    /// Counts as a request in the engine until it is dropped.
    place: Option<Place>,
    /// A source that the plan leaves unread, for the controller to time.
    unread: Option<UnreadSource>,
    is_compared: bool,
}

impl Observers {
    /// Observes an answer that is about to go to the engine, after the requests already in its queue.
    pub(super) fn watch(&self, unread: Option<UnreadSource>) -> Observation<'_> {
        let controller = self.controller.as_ref();
        Observation {
            observers: self,
            place: controller.map(|controller| controller.enter()),
            unread,
            is_compared: false,
        }
    }
}

impl Observation<'_> {
    /// The predicted wait for the engine.
    pub(super) fn queue(&self) -> Duration {
        self.place.as_ref().map_or(Duration::ZERO, Place::queue)
    }

    /// The first token exists: the controller learns how long the plan took, and the shadow decides whether to compare
    /// this answer with full prefill.
    pub(super) fn first_token(&mut self, record: &Record) {
        if let Some(controller) = &self.observers.controller {
            let Planned { plan, tiers, .. } = &record.planned;
            controller.learn(plan, tiers, &record.report);
        }
        self.is_compared = self.observers.shadow.picks(&record.report);
    }

    /// The first token has been sent: the KV that this answer missed is queued for computing.
    pub(super) fn started(&self, record: &Record) {
        self.observers.backfill.offer(record.missed());
    }

    /// The last token exists, and the engine has finished with this answer. Now there is time to measure how fast an
    /// unread source can be read, and to write what was learned.
    pub(super) fn last_token(&mut self, times: &StageTimes) {
        let Some(controller) = &self.observers.controller else {
            return;
        };
        controller.occupied(times.in_engine());
        self.place = None;
        let is_write_due = controller.is_write_due();
        let unread = self.unread.take();
        if is_write_due || unread.is_some() {
            let controller = Arc::clone(controller);
            // Detached: the result is not awaited.
            drop(blocking::begin(move || {
                unread.into_iter().for_each(|one| controller.sample(one));
                if is_write_due {
                    controller.write();
                }
                Ok::<_, Panicked>(())
            }));
        }
    }

    /// The whole answer has been sent.
    pub(super) fn finished(self, record: Record) {
        if self.is_compared {
            self.observers.shadow.offer(record);
        }
    }
}
