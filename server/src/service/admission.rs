//! Limits how many calls run at once. A call beyond the limit is refused before any work is done for it.

use tokio::sync::watch;

/// How the calls since the server started have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Activity {
    /// Now running or waiting for the engine.
    pub running: usize,
    pub answered: u64,
    /// Refused because all places were taken.
    pub rejected: u64,
    /// Ended because the client went away.
    pub cancelled: u64,
    pub failed: u64,
}

/// Places for calls: at most `limit` permits at a time.
pub(super) struct Admission {
    limit: usize,
    activity: watch::Sender<Activity>,
}

/// The right to run; gives its place back when dropped.
pub struct Permit {
    activity: watch::Sender<Activity>,
}

/// How an admitted call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Answered,
    Cancelled,
    Failed,
}

impl Admission {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            activity: watch::Sender::new(Activity::default()),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// A permit if a place is free, or `None`.
    pub(super) fn admit(&self) -> Option<Permit> {
        let mut admitted = false;
        self.activity.send_modify(|activity| {
            admitted = activity.running < self.limit;
            if admitted {
                activity.running += 1;
            } else {
                activity.rejected += 1;
            }
        });
        admitted.then(|| Permit {
            activity: self.activity.clone(),
        })
    }

    pub(super) fn activity(&self) -> watch::Receiver<Activity> {
        self.activity.subscribe()
    }

    /// Resolves when no permit is held.
    pub(super) async fn idle(&self) {
        let mut activity = self.activity.subscribe();
        // An error would mean that the sender has been dropped, but `self` holds it.
        let _always_ok = activity.wait_for(|activity| activity.running == 0).await;
    }
}

impl Permit {
    /// Gives the place back and counts how the call ended.
    pub(super) fn end(self, ending: Ending) {
        self.activity.send_modify(|activity| match ending {
            Ending::Answered => activity.answered += 1,
            Ending::Cancelled => activity.cancelled += 1,
            Ending::Failed => activity.failed += 1,
        });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.activity.send_modify(|activity| activity.running -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_permit_makes_room() {
        let admission = Admission::new(1);
        let first = admission.admit().unwrap();
        assert!(admission.admit().is_none());
        first.end(Ending::Answered);
        let second = admission.admit().unwrap();
        drop(second);
        let activity = *admission.activity().borrow();
        assert_eq!(
            activity,
            Activity {
                answered: 1,
                rejected: 1,
                ..Activity::default()
            }
        );
    }
}
