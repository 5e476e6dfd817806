//! One prefill: a plan's schedule, run pass by pass and layer by layer.
//!
//! [`advance_together`] runs one layer of one or more of them, whenever there is time for it; [`prefill`] runs all layers
//! of one.

use std::time::{Duration, Instant};

use burn::tensor::Tensor;

use super::blend::Mode;
use super::block::Sources;
use super::context::FusionContext;
use super::deviation::TrueDeviation;
use super::executor::{BatchEntry, Halt, advance};
use super::hooks::{Decided, Observer, PrefillHooks};
use super::interrupt::{BadBlock, Interrupt, StopCheck};
use super::live_rows::LiveRows;
use super::loader::Loader;
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
    /// `[rows, hidden_size]`: the rows that went through the last layer; the rows at its input for [`Forward::None`].
    pub hidden: Option<Tensor<B, 2>>,
    pub report: FuseReport,
}

/// Why a fused prefill did not finish.
pub(crate) enum FuseError {
    /// Stored KV proved bad. The sources are returned for another attempt.
    BadBlock { block: BadBlock, sources: Sources },
    /// Cancelled or expired, or the device failed.
    Stopped(EngineError),
}

/// A plan to run, with what that needs.
pub(crate) struct PrefillRequest<'a> {
    pub plan: &'a FusionPlan,
    pub loader: Loader,
    /// Tokens to reserve, prompt included.
    pub capacity: usize,
    /// The rows that go through the last layer.
    pub at_end: Forward,
    /// Whether the prompt is still wanted.
    pub stop: StopCheck<'a>,
}

/// Runs a plan; `observe` sees each layer.
pub(crate) fn prefill<B: FusionBackend>(
    ctx: &mut FusionContext<'_, B>,
    request: PrefillRequest<'_>,
    observe: Observer<'_, B>,
) -> Result<FusedPrefill<B>, FuseError> {
    let mut prefill = Prefill::start(ctx, request);
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
    stop: StopCheck<'_>,
) -> Result<(Vec<usize>, Vec<Vec<f32>>), FuseError> {
    loader.hasten();
    let schedule = LayerSchedule::deviation(plan, ctx.n_layers());
    let cache = ctx.take_cache(plan.n_tokens());
    let mut prefill = Prefill::new(
        plan,
        Stored::new(loader, schedule.kept_layers()),
        cache,
        schedule,
        stop,
    );
    match prefill.run(ctx, &mut |_, _| {}) {
        Ok(()) => {
            ctx.spare.give(prefill.cache);
            let layers = prefill.observed.pop().unwrap_or_default();
            Ok((prefill.schedule.candidate_rows.to_vec(), layers))
        }
        Err(interrupt) => Err(prefill.give_up(ctx, interrupt)),
    }
}

/// Runs one layer of each prefill: all of them are at the same one. Each is paired with what sees its layers.
pub(crate) fn advance_together<B: FusionBackend>(
    ctx: &mut FusionContext<'_, B>,
    prefills: &mut [(&mut Prefill<'_, B>, Observer<'_, B>)],
) -> Result<(), Halt> {
    let begun = Instant::now();
    let waited: Vec<Duration> = prefills.iter().map(|(it, _)| it.stored.waited()).collect();
    let is_probe: Vec<bool> = prefills.iter().map(|(it, _)| it.is_probing()).collect();
    let mut batch = Vec::with_capacity(prefills.len());
    for (prefill, observe) in prefills.iter_mut() {
        batch.extend(prefill.entry(ctx, &mut **observe));
    }
    let outcome = advance(ctx, &mut batch);
    drop(batch);
    let spent = begun.elapsed();
    for (((prefill, _), waited), is_probe) in prefills.iter_mut().zip(waited).zip(is_probe) {
        prefill.count(spent, waited, is_probe);
    }
    outcome?;
    prefills
        .iter_mut()
        .for_each(|(prefill, _)| prefill.settle());
    Ok(())
}

/// The state of one prefill between two layers.
pub(crate) struct Prefill<'a, B: FusionBackend> {
    plan: FusionPlan,
    schedule: LayerSchedule,
    prompt_ids: Vec<u32>,
    cache: KvCache<B>,
    stored: Stored<B>,
    stop: StopCheck<'a>,
    prefix_cached: bool,
    /// Index of the current pass, with its rows; `None` before its first layer.
    pass: usize,
    live: Option<LiveRows<B>>,
    /// The cache of a full prefill beside this one, while a probe runs it.
    truth: Option<KvCache<B>>,
    /// What each probe has observed so far: `[probes][layers][candidates]`.
    observed: Vec<Vec<Vec<f32>>>,
    selector: Option<Selector>,
    decided: Decided,
    hidden: Option<Tensor<B, 2>>,
    rows_forwarded: usize,
    /// Time spent here so far, waiting for reads included.
    spent: Duration,
    /// The part of `spent` that went into probes, not counting time spent waiting for reads.
    probe: Duration,
}

impl<'a, B: FusionBackend> Prefill<'a, B> {
    /// Prepares a plan: no row has been computed yet.
    pub(crate) fn start(ctx: &mut FusionContext<'_, B>, request: PrefillRequest<'a>) -> Self {
        let begun = Instant::now();
        let (plan, n_layers) = (request.plan, ctx.n_layers());
        request.loader.hasten(); // first, so that it reads while the rest is prepared
        let mut cache = ctx.take_cache(request.capacity);
        let prefix_cached = place_prefix(ctx, plan, &mut cache);
        let schedule = LayerSchedule::prefill(plan, n_layers, prefix_cached, request.at_end);
        let stored = Stored::new(request.loader, schedule.kept_layers());
        let mut prefill = Self::new(plan, stored, cache, schedule, request.stop);
        prefill.prefix_cached = prefix_cached;
        prefill.spent = begun.elapsed();
        prefill
    }

    fn new(
        plan: &FusionPlan,
        stored: Stored<B>,
        cache: KvCache<B>,
        schedule: LayerSchedule,
        stop: StopCheck<'a>,
    ) -> Self {
        Self {
            prompt_ids: plan.segments().token_ids(),
            plan: plan.clone(),
            cache,
            stored,
            stop,
            prefix_cached: false,
            pass: 0,
            live: None,
            truth: None,
            observed: Vec::new(),
            selector: None,
            decided: Decided::default(),
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
        while !self.is_done() {
            advance_together(ctx, &mut [(self, observe)]).map_err(|halt| halt.interrupt)?;
        }
        Ok(())
    }

    /// Whether all layers of all passes have run.
    pub(crate) fn is_done(&self) -> bool {
        self.pass >= self.schedule.passes.len()
    }

    /// The rows that are due, with what happens to them at their next layer; `None` after the last pass.
    fn entry<'e>(
        &'e mut self,
        ctx: &mut FusionContext<'_, B>,
        observe: Observer<'e, B>,
    ) -> Option<BatchEntry<'e, B>> {
        let purpose = self.schedule.passes.get(self.pass)?.purpose;
        if self.live.is_none() {
            self.begin_pass(ctx, purpose);
        }
        let (stored, candidates) = (&mut self.stored, &*self.schedule.candidate_rows);
        let (cache, stop) = (&mut self.cache, self.stop);
        let live = self.live.as_mut().expect("begin_pass made it");
        let observed = self.observed.last_mut();
        Some(match purpose {
            Purpose::Question { pooling, n_asking } => {
                let hooks = QuestionAttention {
                    pooling,
                    n_asking,
                    candidates,
                    stored,
                    observed: observed.expect("begin_pass made it"),
                };
                BatchEntry::new(live, cache, hooks, stop)
            }
            Purpose::Truth(which) => {
                let hooks = TrueDeviation {
                    which,
                    candidates,
                    stored,
                    placed_in: cache,
                    observed: observed.expect("begin_pass made it"),
                };
                let truth = self.truth.as_mut().expect("begin_pass made it");
                BatchEntry::new(live, truth, hooks, stop)
            }
            Purpose::Compute => {
                let hooks = PrefillHooks {
                    schedule: &self.schedule,
                    selector: self.selector.as_ref(),
                    stored,
                    decided: &mut self.decided,
                    observe,
                };
                BatchEntry::new(live, cache, hooks, stop)
            }
        })
    }

    /// Adds the time of one layer. `waited`: the time waited for reads before it.
    fn count(&mut self, spent: Duration, waited: Duration, is_probe: bool) {
        self.spent += spent;
        if is_probe {
            let waited = self.stored.waited() - waited;
            self.probe += spent.saturating_sub(waited);
        }
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
        self.live = Some(LiveRows::of_pass(ctx, pass, &chosen, &self.prompt_ids));
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
        let is_through = |live: &mut LiveRows<B>| live.step().is_none();
        if let Some(live) = self.live.take_if(is_through) {
            self.rows_forwarded += live.rows_forwarded;
            self.truth = None;
            self.hidden = live.into_hidden().filter(|_| !self.is_probing());
            self.pass += 1;
        }
    }

    fn is_probing(&self) -> bool {
        let pass = self.schedule.passes.get(self.pass);
        pass.is_some_and(|pass| pass.purpose != Purpose::Compute)
    }

    /// Keeps an exact prefix, and reports, once the device has done what it was asked.
    pub(crate) fn finish(
        mut self,
        ctx: &mut FusionContext<'_, B>,
    ) -> Result<FusedPrefill<B>, FuseError> {
        let begun = Instant::now();
        if let Err(error) = B::sync(ctx.decoder.device()) {
            let message = format!("{error:?}");
            return Err(FuseError::Stopped(EngineError::Device { message }));
        }
        self.keep_prefix(ctx); // only now: what failed must not be kept as exact
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
            tokens_recomputed: self.decided.recomputed.len(),
            tokens_prefilled: self.schedule.always.len(),
            bytes_loaded: loaded.bytes_from_memory + loaded.bytes_from_disk,
            bytes_from_memory: loaded.bytes_from_memory,
            bytes_from_disk: loaded.bytes_from_disk,
            chunks_hit: if loads { chunks_hit } else { 0 },
            chunks_missed: states.len() - chunks_hit,
            failed_chunks: Vec::new(),
            replans: 0,
            recomputed_rows: self.decided.recomputed,
            rows_forwarded: self.rows_forwarded,
            deviation_left: self.decided.deviation_left,
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
