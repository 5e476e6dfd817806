//! What the controller learns of one request: that it waits, how long its plan took, how long it occupied the engine.

use std::sync::Arc;
use std::time::Duration;

use ragweave_engine::{FuseReport, FusionPlan, Tier};

use crate::controller::{Controller, Place, Spare};

/// A request in the engine; forgotten when dropped.
pub(super) struct Watch {
    watched: Option<Watched>,
}

struct Watched {
    controller: Arc<Controller>,
    plan: FusionPlan,
    tiers: Vec<Option<Tier>>,
    /// Until the engine takes the request, as foreseen.
    queue: Duration,
    _place: Place,
}

impl Watch {
    /// Takes a place behind the requests that are there; nothing is watched without a controller.
    pub(super) fn start(
        controller: Option<&Arc<Controller>>,
        plan: &FusionPlan,
        tiers: Vec<Option<Tier>>,
    ) -> Self {
        let watched = controller.map(|controller| Watched {
            queue: controller.queue(),
            _place: controller.enter(),
            controller: Arc::clone(controller),
            plan: plan.clone(),
            tiers,
        });
        Self { watched }
    }

    pub(super) fn queue(&self) -> Duration {
        self.watched
            .as_ref()
            .map_or(Duration::ZERO, |watched| watched.queue)
    }

    /// The first token is there.
    pub(super) fn learn(&self, report: &FuseReport) {
        if let Some(Watched {
            controller,
            plan,
            tiers,
            ..
        }) = &self.watched
        {
            controller.learn(plan, tiers, report);
        }
    }

    /// The last token is there: now there is time to look how fast an unread source is, and to write.
    pub(super) fn end(self, report: &FuseReport, decode: Duration, spare: Option<Spare>) {
        let Some(Watched { controller, .. }) = self.watched else {
            return;
        };
        let times = &report.timings;
        let prefill = times.load_wait + times.probe + times.recompute + times.first_decode;
        controller.occupied(prefill + decode);
        let is_write_due = controller.is_write_due();
        if is_write_due || spare.is_some() {
            tokio::task::spawn_blocking(move || {
                spare.into_iter().for_each(|spare| controller.sample(spare));
                if is_write_due {
                    controller.write();
                }
            });
        }
    }
}
