//! Compares a share of the fused answers with full prefill after they have ended: both prefills are run along the
//! answer's tokens, one answer at a time, from a bounded queue, while no request waits. Answers that do not fit the
//! queue are dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ragweave_engine::{FuseReport, Mode, Trace, TraceRequest};
use tokio::sync::{mpsc, watch};

use super::error::AnswerError;
use super::layout::Layout;
use super::open::Opened;
use super::planner::Planner;
use super::query::Query;
use super::record::Record;
use crate::blocking;
use crate::fidelity::{self, Fidelity};

/// Answers that may wait to be compared; each holds its prompt.
const MAX_WAITING: usize = 8;
/// Answer tokens that are compared; each costs two decode steps.
const MAX_TOKENS: usize = 32;

/// An answer to compare.
struct Picked {
    query: Arc<Query>,
    layout: Layout,
    answered: Vec<u32>,
}

/// How far answers were from full prefill, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ShadowCounts {
    pub compared: u64,
    /// Mean over answers of KL(full || fused) in nats, each averaged over the answer's tokens.
    pub mean_kl: f64,
    /// The largest of these.
    pub max_kl: f64,
    /// Share of an answer's tokens on which both agree, averaged over answers.
    pub mean_top1_agreement: f64,
    /// The queue was full.
    pub dropped: u64,
    /// The stored KV was gone, or the engine failed.
    pub failed: u64,
}

/// Picks answers and holds the sending end of the queue. The worker ends when the last sender is dropped.
pub(super) struct Shadow {
    sampler: Sampler,
    queue: mpsc::Sender<Picked>,
    counts: watch::Sender<ShadowCounts>,
}

/// Takes an exact share of the answers, evenly spread.
struct Sampler {
    share: f64,
    passed: AtomicU64,
}

impl Sampler {
    fn new(share: f64) -> Self {
        Self {
            share,
            passed: AtomicU64::new(0),
        }
    }

    /// The n-th is taken if `n * share` reaches the next whole number.
    fn takes_next(&self) -> bool {
        let n = self.passed.fetch_add(1, Ordering::Relaxed);
        let due = |n: u64| (n as f64 * self.share).floor();
        due(n + 1) > due(n)
    }
}

impl Shadow {
    /// Starts the worker on the current runtime.
    pub(super) fn start(planner: Arc<Planner>, share: f64) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let counts = watch::Sender::new(ShadowCounts::default());
        tokio::spawn(work(planner, waiting, counts.clone()));
        Self {
            sampler: Sampler::new(share),
            queue,
            counts,
        }
    }

    /// Whether this answer is to be compared. Only fused answers whose chunks were all hits count: a missed chunk could
    /// be a hit by the time of the comparison.
    pub(super) fn picks(&self, report: &FuseReport) -> bool {
        let is_fused =
            report.mode != Mode::Full && report.chunks_hit > 0 && report.chunks_missed == 0;
        is_fused && self.sampler.takes_next()
    }

    /// Queues a picked answer that has ended, or counts it as dropped. Never waits.
    pub(super) fn offer(&self, record: Record) {
        if self.queue.try_send(Picked::of(record)).is_err() {
            self.counts.send_modify(|counts| counts.dropped += 1);
        }
    }

    pub(super) fn counts(&self) -> watch::Receiver<ShadowCounts> {
        self.counts.subscribe()
    }
}

impl Picked {
    fn of(record: Record) -> Self {
        let mut answered = record.tokens;
        answered.truncate(MAX_TOKENS);
        Self {
            // In the mode it ran in: the controller might choose another one next time.
            query: Arc::new(Query {
                mode: record.report.mode.into(),
                ..Query::clone(&record.planned.asked.query)
            }),
            layout: record.planned.layout,
            answered,
        }
    }
}

impl ShadowCounts {
    fn add(&mut self, fidelity: &Fidelity) {
        self.compared += 1;
        let n = self.compared as f64;
        self.mean_kl += (fidelity.mean_kl - self.mean_kl) / n;
        self.max_kl = self.max_kl.max(fidelity.mean_kl);
        self.mean_top1_agreement += (fidelity.top1_agreement - self.mean_top1_agreement) / n;
    }
}

async fn work(
    planner: Arc<Planner>,
    mut waiting: mpsc::Receiver<Picked>,
    counts: watch::Sender<ShadowCounts>,
) {
    while let Some(picked) = waiting.recv().await {
        let request_id = picked.query.request_id.clone();
        let outcome = compare(&planner, picked).await;
        counts.send_modify(|counts| match &outcome {
            Ok(fidelity) => counts.add(fidelity),
            Err(_) => counts.failed += 1,
        });
        match outcome {
            Ok(Fidelity {
                mean_kl,
                top1_agreement,
                ..
            }) => {
                tracing::debug!(
                    request_id,
                    mean_kl,
                    top1_agreement,
                    "compared with full prefill"
                );
            }
            Err(error) => tracing::warn!(request_id, %error, "comparing with full prefill failed"),
        }
    }
}

/// Both prefills along the same tokens. The last token needs no step: its logits follow the token before it.
async fn compare(planner: &Arc<Planner>, picked: Picked) -> Result<Fidelity, AnswerError> {
    let Picked {
        query,
        layout,
        mut answered,
    } = picked;
    answered.pop();
    let layout = Arc::new(layout);
    let full_query = Arc::new(Query {
        mode: Mode::Full.into(),
        ..Query::clone(&query)
    });
    let fused = trace(planner, query, Arc::clone(&layout), answered.clone()).await?;
    if fused.report.chunks_missed > 0 {
        return Err(AnswerError::internal("the stored KV of the answer is gone"));
    }
    let full = trace(planner, full_query, layout, answered).await?;
    fidelity::compare(&full.logits, &fused.logits)
        .ok_or_else(|| AnswerError::internal("a logit is not finite"))
}

/// Logits along `forced`, in the query's mode, from freshly opened sources.
async fn trace(
    planner: &Arc<Planner>,
    query: Arc<Query>,
    layout: Arc<Layout>,
    forced: Vec<u32>,
) -> Result<Trace, AnswerError> {
    let engine = planner.components.engine.clone();
    let planner = Arc::clone(planner);
    let opening = blocking::run(move || planner.open(&query, &layout));
    let Opened { request, .. } = opening.await?;
    let request = TraceRequest {
        plan: request.plan,
        sources: request.sources,
        forced,
    };
    // The engine runs it when no request waits.
    Ok(engine.trace(request).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_share_is_taken_and_evenly() {
        for (share, of, taken) in [(0.01, 1000, 10), (0.3, 10, 3), (1.0, 7, 7), (0.0, 100, 0)] {
            let sampler = Sampler::new(share);
            let picks: Vec<bool> = (0..of).map(|_| sampler.takes_next()).collect();
            let n = picks.iter().filter(|&&pick| pick).count();
            assert_eq!(n, taken, "{share}");
        }
        let halves = Sampler::new(0.5);
        let picks: Vec<bool> = (0..4).map(|_| halves.takes_next()).collect();
        assert_eq!(picks, [false, true, false, true]);
    }

    #[test]
    fn aggregates_run_over_answers() {
        let of = |mean_kl, top1_agreement| Fidelity {
            positions: 4,
            mean_kl,
            max_kl: 9.0,
            top1_agreement,
        };
        let mut counts = ShadowCounts::default();
        for fidelity in [of(0.1, 1.0), of(0.4, 0.5), of(0.1, 0.75)] {
            counts.add(&fidelity);
        }
        assert_eq!((counts.compared, counts.max_kl), (3, 0.4));
        assert!((counts.mean_kl - 0.2).abs() < 1e-12, "{counts:?}");
        assert!(
            (counts.mean_top1_agreement - 0.75).abs() < 1e-12,
            "{counts:?}"
        );
    }
}
