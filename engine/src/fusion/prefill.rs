//! One prefill: a plan's schedule, run pass by pass and layer by layer.
//!
//! [`Prefill::advance`] runs one layer and may be called at any time; [`prefill`] runs all layers.

use std::time::{Duration, Instant};

use burn::tensor::Tensor;

use super::blend::Mode;
use super::block::Sources;
use super::context::FusionContext;
use super::deviation::TrueDeviation;
use super::executor::{Flight, Lane, advance};
use super::interrupt::{BadBlock, Interrupt};
use super::loader::Loader;
use super::mending::{Mended, Mending, Observer};
use super::plan::{ChunkState, FusionPlan};
use super::policy::{self, Member, Selector};
use super::probe::QuestionAttention;
use super::report::{FuseReport, FuseTimings};
use super::schedule::{Forward, LayerSchedule, Purpose, candidates};
use super::stored::Stored;
use crate::error::EngineError;
use crate::kernel::FusionBackend;
use crate::kv::KvCache;
use crate::model::row_tensor;

/// A prompt whose KV is complete.
pub(crate) struct FusedPrefill<B: FusionBackend> {
    pub cache: KvCache<B>,
    /// `[rows, hidden_size]`: the rows that [`Forward`] asked for at the last layer.
    pub hidden: Option<Tensor<B, 2>>,
    pub report: FuseReport,
}

/// Why a fused prefill did not finish.
pub(crate) enum FuseError {
    /// Stored KV proved bad. The sources are returned for another attempt.
    BadBlock { block: BadBlock, sources: Sources },
    /// Cancelled or expired.
    Stopped(EngineError),
}

/// Runs a plan. `capacity` is the number of tokens to reserve, prompt included; `at_end` says which rows go through the
/// last layer; `observe` sees each layer.
pub(crate) fn prefill<B: FusionBackend>(
    ctx: &mut FusionContext<'_, B>,
    plan: &FusionPlan,
    loader: Loader,
    capacity: usize,
    at_end: Forward,
    observe: Observer<'_, B>,
) -> Result<FusedPrefill<B>, FuseError> {
    let mut prefill = Prefill::start(ctx, plan, loader, capacity, at_end);
    match prefill.run(ctx, observe) {
        Ok(()) => prefill.finish(ctx),
        Err(interrupt) => Err(prefill.give_up(ctx, interrupt)),
    }
}

/// Relative deviation of each candidate's stored KV from a real full prefill, with the candidates' positions:
/// `[n_layers][candidates]`.
pub(crate) fn true_deviation<B: FusionBackend>(
    ctx: &mut FusionContext<'_, B>,
    plan: &FusionPlan,
    loader: Loader,
) -> Result<(Vec<usize>, Vec<Vec<f32>>), FuseError> {
    let schedule = LayerSchedule::deviation(plan, ctx.n_layers());
    let cache = ctx.take_cache(plan.n_tokens());
    let mut prefill = Prefill::new(plan, loader, cache, schedule);
    match prefill.run(ctx, &mut |_, _| {}) {
        Ok(()) => {
            ctx.spare.give(prefill.cache);
            let layers = prefill.observed.pop().unwrap_or_default();
            Ok((prefill.schedule.candidate_rows.to_vec(), layers))
        }
        Err(interrupt) => Err(prefill.give_up(ctx, interrupt)),
    }
}

/// Whether there is more to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Done,
}

/// The state of one prefill between two layers.
pub(crate) struct Prefill<B: FusionBackend> {
    plan: FusionPlan,
    schedule: LayerSchedule,
    prompt_ids: Vec<u32>,
    cache: KvCache<B>,
    stored: Stored<B>,
    prefix_cached: bool,
    /// Index of the current pass, with its rows; `None` before its first layer.
    pass: usize,
    flight: Option<Flight<B>>,
    /// The separate cache of a full prefill, while a probe runs it.
    truth: Option<KvCache<B>>,
    /// What each probe has observed so far: `[probes][layers][candidates]`.
    observed: Vec<Vec<Vec<f32>>>,
    selector: Option<Selector>,
    mended: Mended,
    hidden: Option<Tensor<B, 2>>,
    rows_forwarded: usize,
    /// Time spent here so far, waiting for reads included.
    spent: Duration,
    /// The part of `spent` that went into probes, not counting time spent waiting for reads.
    probe: Duration,
}

impl<B: FusionBackend> Prefill<B> {
    /// Prepares a plan without computing any row.
    pub(crate) fn start(
        ctx: &mut FusionContext<'_, B>,
        plan: &FusionPlan,
        loader: Loader,
        capacity: usize,
        at_end: Forward,
    ) -> Self {
        let begun = Instant::now();
        let mut cache = ctx.take_cache(capacity);
        let prefix_cached = place_prefix(ctx, plan, &mut cache);
        let schedule = LayerSchedule::prefill(plan, ctx.n_layers(), prefix_cached, at_end);
        let mut prefill = Self::new(plan, loader, cache, schedule);
        prefill.prefix_cached = prefix_cached;
        prefill.spent = begun.elapsed();
        prefill
    }

    fn new(plan: &FusionPlan, loader: Loader, cache: KvCache<B>, schedule: LayerSchedule) -> Self {
        Self {
            stored: Stored::new(loader, schedule.kept_layers()),
            prompt_ids: plan.segments().token_ids(),
            plan: plan.clone(),
            cache,
            prefix_cached: false,
            pass: 0,
            flight: None,
            truth: None,
            observed: Vec::new(),
            selector: None,
            mended: Mended::default(),
            hidden: None,
            rows_forwarded: 0,
            spent: Duration::ZERO,
            probe: Duration::ZERO,
            schedule,
        }
    }

    /// Runs all layers.
    fn run(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        observe: Observer<'_, B>,
    ) -> Result<(), Interrupt> {
        while self.advance(ctx, observe)? == Progress::More {}
        Ok(())
    }

    /// Runs one layer of the current pass.
    pub(crate) fn advance(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        observe: Observer<'_, B>,
    ) -> Result<Progress, Interrupt> {
        let begun = Instant::now();
        let (waited, is_probe) = (self.stored.waited(), self.is_probing());
        if let Some(lane) = self.lane(ctx, observe) {
            advance(ctx, &mut [lane]).map_err(|halt| halt.interrupt)?;
        }
        self.settle();
        let spent = begun.elapsed();
        self.spent += spent;
        if is_probe {
            let waited = self.stored.waited() - waited;
            self.probe += spent.saturating_sub(waited);
        }
        match self.pass < self.schedule.passes.len() {
            true => Ok(Progress::More),
            false => Ok(Progress::Done),
        }
    }

    /// The rows of the current pass, with the hooks for their next layer; `None` after the last pass.
    fn lane<'a>(
        &'a mut self,
        ctx: &mut FusionContext<'_, B>,
        observe: Observer<'a, B>,
    ) -> Option<Lane<'a, B>> {
        let purpose = self.schedule.passes.get(self.pass)?.purpose;
        if self.flight.is_none() {
            self.begin_pass(ctx, purpose);
        }
        let (stored, candidates) = (&mut self.stored, &*self.schedule.candidate_rows);
        let (cache, observed) = (&mut self.cache, self.observed.last_mut());
        let flight = self.flight.as_mut()?;
        Some(match purpose {
            Purpose::Question { pooling, n_asking } => {
                let hooks = QuestionAttention {
                    pooling,
                    n_asking,
                    candidates,
                    stored,
                    observed: observed?,
                };
                Lane::new(flight, cache, hooks)
            }
            Purpose::Truth(which) => {
                let hooks = TrueDeviation {
                    which,
                    candidates,
                    stored,
                    placed_in: cache,
                    observed: observed?,
                };
                Lane::new(flight, self.truth.as_mut()?, hooks)
            }
            Purpose::Compute => {
                let hooks = Mending {
                    schedule: &self.schedule,
                    selector: self.selector.as_ref(),
                    stored,
                    mended: &mut self.mended,
                    observe,
                };
                Lane::new(flight, cache, hooks)
            }
        })
    }

    fn begin_pass(&mut self, ctx: &mut FusionContext<'_, B>, purpose: Purpose) {
        let mut chosen = Vec::new();
        match purpose {
            Purpose::Question { .. } => self.observed.push(Vec::new()),
            Purpose::Truth(_) => {
                self.observed.push(Vec::new());
                self.truth = Some(ctx.new_cache(self.plan.n_tokens()));
            }
            Purpose::Compute => {
                self.selector = self.select();
                let selector = self.selector.as_ref();
                chosen = selector.map_or_else(Vec::new, Selector::initial_rows);
            }
        }
        let pass = &self.schedule.passes[self.pass];
        self.flight = Some(Flight::of_pass(ctx, pass, &chosen, &self.prompt_ids));
    }

    /// Scores the candidates from what the probes have observed; `None` if no policy chooses.
    fn select(&self) -> Option<Selector> {
        let blend = self
            .plan
            .mode()
            .as_blend()
            .filter(|_| self.schedule.chooses)?;
        let candidates = candidates(&self.plan, self.schedule.n_layers);
        let mut observed = self.observed.iter();
        let (mut scores, mut check) = (Vec::new(), None);
        for member in policy::members(&blend.selection.policy, self.schedule.n_layers) {
            scores.push(match member {
                Member::Checked(found) => {
                    check = Some(found);
                    None
                }
                Member::Ranked(ranker) => {
                    let seen = ranker.probe().and_then(|_| observed.next());
                    Some(ranker.scores(&candidates, seen.map_or(&[], Vec::as_slice)))
                }
            });
        }
        Some(Selector::new(candidates, scores, check))
    }

    /// Completes a pass whose last layer has run.
    fn settle(&mut self) {
        let has_landed = |flight: &mut Flight<B>| flight.step().is_none();
        if let Some(flight) = self.flight.take_if(has_landed) {
            self.rows_forwarded += flight.rows_forwarded;
            self.truth = None;
            self.pass += 1;
            self.hidden = flight.into_hidden();
        }
    }

    fn is_probing(&self) -> bool {
        let pass = self.schedule.passes.get(self.pass);
        pass.is_some_and(|pass| pass.purpose != Purpose::Compute)
    }

    /// Keeps an exact prefix, and reports once the device has finished its work.
    fn finish(mut self, ctx: &mut FusionContext<'_, B>) -> Result<FusedPrefill<B>, FuseError> {
        let begun = Instant::now();
        self.keep_prefix(ctx);
        if let Err(error) = B::sync(ctx.decoder.device()) {
            let message = format!("{error:?}");
            return Err(FuseError::Stopped(EngineError::Device { message }));
        }
        self.spent += begun.elapsed();
        Ok(self.into_fused())
    }

    /// Puts the KV of a prefix computed here into the prefix cache: it is exact.
    fn keep_prefix(&self, ctx: &mut FusionContext<'_, B>) {
        let prefix = &self.plan.segments().prefix;
        if !self.prefix_cached && !prefix.is_empty() {
            let kv = self.cache.rows(0..prefix.len());
            ctx.prefixes.insert(prefix, kv);
        }
    }

    fn into_fused(self) -> FusedPrefill<B> {
        let states = self.plan.chunk_states();
        let loads = *self.plan.mode() != Mode::Full;
        let is_hit = |state: &&ChunkState| matches!(state, ChunkState::Hit { .. });
        let chunks_hit = states.iter().filter(is_hit).count();
        let prefix_tokens = self.plan.segments().prefix.len();
        let tokens_loaded = self.stored.n_tokens();
        let (_, loaded) = self.stored.finish();
        let report = FuseReport {
            mode: self.plan.mode().clone(),
            prompt_tokens: self.plan.n_tokens(),
            prefix_tokens_cached: if self.prefix_cached { prefix_tokens } else { 0 },
            tokens_loaded,
            tokens_recomputed: self.mended.recomputed.len(),
            tokens_prefilled: self.schedule.always.len(),
            bytes_loaded: loaded.bytes_from_memory + loaded.bytes_from_disk,
            bytes_from_memory: loaded.bytes_from_memory,
            bytes_from_disk: loaded.bytes_from_disk,
            chunks_hit: if loads { chunks_hit } else { 0 },
            chunks_missed: states.len() - chunks_hit,
            failed_chunks: Vec::new(),
            replans: 0,
            recomputed_rows: self.mended.recomputed,
            rows_forwarded: self.rows_forwarded,
            deviation_left: self.mended.deviation_left,
            timings: FuseTimings {
                load: loaded.load,
                load_wait: loaded.wait,
                probe: self.probe,
                recompute: self.spent.saturating_sub(loaded.wait + self.probe),
                ..FuseTimings::default()
            },
        };
        FusedPrefill {
            cache: self.cache,
            hidden: self.hidden,
            report,
        }
    }

    /// Ends an interrupted prefill and keeps its buffers for the next one.
    fn give_up(self, ctx: &mut FusionContext<'_, B>, interrupt: Interrupt) -> FuseError {
        ctx.spare.give(self.cache);
        match interrupt {
            Interrupt::Stopped(error) => FuseError::Stopped(error),
            Interrupt::BadBlock(block) => {
                let (sources, _) = self.stored.finish();
                FuseError::BadBlock { block, sources }
            }
        }
    }
}

/// Copies a cached prefix into the cache. Returns whether there was one.
fn place_prefix<B: FusionBackend>(
    ctx: &mut FusionContext<'_, B>,
    plan: &FusionPlan,
    cache: &mut KvCache<B>,
) -> bool {
    let prefix = &plan.segments().prefix;
    let rows: Vec<usize> = (0..prefix.len()).collect();
    let index = row_tensor::<B>(&rows, ctx.decoder.device());
    let Some(kv) = ctx.prefixes.get(prefix) else {
        return false;
    };
    for (layer_idx, (k, v)) in kv.iter().enumerate() {
        let layer = cache.layer_mut(layer_idx);
        layer.write(&index, k.clone(), v.clone());
    }
    true
}
