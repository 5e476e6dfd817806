//! The layer loop: place what was loaded, compute the rows that are alive, let the policy choose.
//!
//! Full prefill, chunk-alone prefill, plain reuse and every fusion policy are this one loop with
//! different rows alive. CacheBlend section 4.2, under the exact mask.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;

use super::blend::{Correction, Mode};
use super::deviation::{Fresh, Pair};
use super::loader::BadBlock;
pub(crate) use super::loader::Sources;
use super::plan::{ChunkState, FusionPlan};
use super::policy::{self, Deviation, Member, Policy, Probe, Selector};
use super::probe::QuestionProbe;
use super::report::{FuseReport, FuseTimings};
use super::rows::{always_rows, candidates, indices, layer_reads};
use super::stored::{Placed, Rows, Stored};
use crate::error::EngineError;
use crate::kernel::FusionBackend;
use crate::kv::{KvCache, KvIdentity, LayerCache, PrefixCache};
use crate::model::{Decoder, DecoderLayer, RopeTable, row_tensor};

/// What the loop needs of the engine.
pub(crate) struct FusionContext<'a, B: FusionBackend> {
    pub decoder: &'a Decoder<B>,
    pub rope: &'a mut RopeTable<B>,
    pub prefixes: &'a mut PrefixCache<B>,
    pub identity: &'a KvIdentity,
    /// Rows computed at once in attention and MLP: bounds activation memory.
    pub max_prefill_tokens: usize,
    /// Asked once per layer: a cancelled or expired request stops here.
    pub stop: &'a dyn Fn() -> Option<EngineError>,
}

/// Of which rows the last hidden state is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowWindow {
    /// The last row: the next token's logits.
    Last,
    /// All rows alive at the last layer.
    Alive,
    /// None: only K/V are wanted, and the last layer's attention and MLP are left out.
    None,
}

/// A prompt whose KV is complete.
pub(crate) struct FusedPrefill<B: FusionBackend> {
    pub cache: KvCache<B>,
    /// `[rows, hidden_size]`; absent for [`RowWindow::None`].
    pub hidden: Option<Tensor<B, 2>>,
    pub report: FuseReport,
}

/// Why a fused prefill did not finish.
pub(crate) enum FuseError {
    /// Stored KV proved bad. The sources come back for another attempt.
    BadBlock { block: BadBlock, sources: Sources },
    /// Cancelled or expired.
    Stopped(EngineError),
}

/// One layer as a watcher sees it, once the rows computed there are in the cache.
pub(crate) struct LayerView<'a, B: FusionBackend> {
    pub index: usize,
    pub layer: &'a DecoderLayer<B>,
    pub rows: &'a Rows<B>,
    /// K (before RoPE) and V of the rows: `[m, kv_heads, head_dim]`.
    pub fresh: &'a Fresh<B>,
    pub normed: &'a Tensor<B, 2>, // [m, hidden_size]
    pub cache: &'a LayerCache<B>,
}

impl<B: FusionBackend> LayerView<'_, B> {
    /// The output of attention at the last row, before its projection: `[heads * head_dim]`.
    pub(crate) fn last_attended(&self) -> Vec<f32> {
        let (device, positions) = (self.normed.device(), &self.rows.positions);
        let last = positions.len() - 1;
        let normed = self.normed.clone().select(0, row_tensor(&[last], &device));
        let rope = self.rows.rope.select(&[last], &device);
        let attended = self
            .layer
            .attend(normed, &positions[last..], &rope, self.cache);
        attended.into_data().iter::<f32>().collect()
    }
}

pub(crate) type Observer<'a, B> = &'a mut dyn FnMut(LayerView<'_, B>);

impl<B: FusionBackend> FusionContext<'_, B> {
    /// Runs a plan. `capacity` tokens are reserved, prompt included; `observe` sees each layer.
    pub(crate) fn prefill(
        &mut self,
        plan: &FusionPlan,
        sources: Sources,
        capacity: usize,
        window: RowWindow,
        observe: Observer<'_, B>,
    ) -> Result<FusedPrefill<B>, FuseError> {
        let start = Instant::now();
        let mut run = Run::start(self, plan, sources, capacity);
        // 1. What the policy must see before it can choose.
        let outcome = run
            .choose_rows(self, plan)
            // 2. Layer by layer.
            .and_then(|()| run.layers(self, window, observe));
        match outcome {
            Ok(()) => {}
            Err(Interrupt::BadBlock(block)) => {
                let (sources, ..) = run.stored.finish();
                return Err(FuseError::BadBlock { block, sources });
            }
            Err(Interrupt::Stopped(error)) => return Err(FuseError::Stopped(error)),
        }
        // 3. Keep an exact prefix; report, once the device has done what it was asked.
        run.keep_prefix(self, plan);
        let synced = B::sync(self.decoder.device());
        synced.map_err(|error| {
            let message = format!("{error:?}");
            FuseError::Stopped(EngineError::Device { message })
        })?;
        Ok(run.finish(plan, start))
    }

    /// Relative deviation of each candidate's stored KV from a real full prefill, with the
    /// candidates' positions: `[n_layers][candidates]`.
    pub(crate) fn true_deviation(
        &mut self,
        plan: &FusionPlan,
        sources: Sources,
    ) -> Result<(Vec<usize>, Vec<Vec<f32>>), FuseError> {
        let mut run = Run::start(self, plan, sources, plan.n_tokens());
        match run.true_deviation(self, plan, Deviation::Kv) {
            Ok(layers) => Ok((run.candidates, layers)),
            Err(Interrupt::Stopped(error)) => Err(FuseError::Stopped(error)),
            Err(Interrupt::BadBlock(block)) => {
                let (sources, ..) = run.stored.finish();
                Err(FuseError::BadBlock { block, sources })
            }
        }
    }

    pub(super) fn check_stop(&self) -> Result<(), Interrupt> {
        match (self.stop)() {
            Some(error) => Err(Interrupt::Stopped(error)),
            None => Ok(()),
        }
    }
}

pub(super) enum Interrupt {
    BadBlock(BadBlock),
    Stopped(EngineError),
}

impl From<BadBlock> for Interrupt {
    fn from(block: BadBlock) -> Self {
        Self::BadBlock(block)
    }
}

/// The state of one prefill.
pub(super) struct Run<B: FusionBackend> {
    pub cache: KvCache<B>,
    pub stored: Stored<B>,
    /// Rows computed at every layer: question, missed chunks, a prefix not cached.
    pub always: BTreeSet<usize>,
    /// Chunks with stored KV that is not exact, and their rows: what the policy decides about.
    pub chunks: Vec<Range<usize>>,
    pub candidates: Vec<usize>, // ascending
    pub alive: Rows<B>,
    hidden: Tensor<B, 2>, // [alive, hidden_size]
    selector: Option<Selector>,
    correction: Correction,
    recomputed: Vec<usize>,
    prefix_cached: bool,
    deviation_left: Option<f64>,
    probe: Duration,
    /// Rows through attention and MLP so far, over all layers.
    pub rows_forwarded: usize,
}

impl<B: FusionBackend> Run<B> {
    fn start(
        ctx: &mut FusionContext<'_, B>,
        plan: &FusionPlan,
        sources: Sources,
        capacity: usize,
    ) -> Self {
        let decoder = ctx.decoder;
        let n_layers = decoder.config().num_hidden_layers;
        let (dtype, device) = (decoder.dtype(), decoder.device());
        let mut cache = KvCache::new(decoder.config(), capacity, dtype, device);
        let prefix_cached = place_prefix(ctx, plan, &mut cache);
        let candidates = candidates(plan, n_layers);
        let (first_loaded, correction) = match plan.mode() {
            Mode::Full | Mode::Reuse => (0, Correction::None),
            Mode::Blend(blend) => (policy::first_loaded_layer(blend), blend.correction),
        };
        let reads = layer_reads(plan, first_loaded, n_layers);
        let always = always_rows(plan, prefix_cached);
        let alive = Rows::new(ctx, always.iter().copied().collect());
        Self {
            cache,
            stored: Stored::start(reads, sources, ctx.identity),
            hidden: embed(ctx, plan, &alive.positions),
            alive,
            always,
            candidates: candidates.rows(),
            chunks: candidates.chunks,
            selector: None,
            correction,
            recomputed: Vec::new(),
            prefix_cached,
            deviation_left: None,
            probe: Duration::ZERO,
            rows_forwarded: 0,
        }
    }

    /// Lets the policies look at the prompt, and makes the rows alive at layer 0.
    fn choose_rows(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        plan: &FusionPlan,
    ) -> Result<(), Interrupt> {
        let chosen: Vec<usize> = match plan.mode() {
            Mode::Full | Mode::Reuse => return Ok(()),
            Mode::Blend(blend) if self.candidates.is_empty() && blend.policy != Policy::All => {
                return Ok(()); // nothing to choose from, so nothing to look at
            }
            Mode::Blend(blend) if blend.policy == Policy::All => (0..plan.n_tokens()).collect(),
            Mode::Blend(_) => {
                let start = Instant::now();
                let selector = self.selector(ctx, plan)?;
                self.probe = start.elapsed().saturating_sub(self.stored.waited());
                self.selector.insert(selector).initial_rows()
            }
        };
        let alive: BTreeSet<usize> = self.always.iter().copied().chain(chosen).collect();
        self.alive = Rows::new(ctx, alive.into_iter().collect());
        self.hidden = embed(ctx, plan, &self.alive.positions);
        Ok(())
    }

    fn selector(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        plan: &FusionPlan,
    ) -> Result<Selector, Interrupt> {
        let n_layers = ctx.decoder.config().num_hidden_layers;
        let candidates = candidates(plan, n_layers);
        let members = match plan.mode() {
            Mode::Blend(blend) => policy::members(blend, n_layers),
            Mode::Full | Mode::Reuse => Vec::new(),
        };
        let (mut scores, mut check) = (Vec::new(), None);
        for member in members {
            scores.push(match member {
                Member::Checked(found) => {
                    check = Some(found);
                    None
                }
                Member::Ranked(ranker) => {
                    let observed = match ranker.probe() {
                        Some(probe) => self.observe(ctx, plan, &probe)?,
                        None => Vec::new(),
                    };
                    Some(ranker.scores(&candidates, &observed))
                }
            });
        }
        Ok(Selector::new(candidates, scores, check))
    }

    fn observe(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        plan: &FusionPlan,
        probe: &Probe,
    ) -> Result<Vec<Vec<f32>>, Interrupt> {
        match probe {
            Probe::Truth(deviation) => self.true_deviation(ctx, plan, *deviation),
            Probe::Question {
                layers,
                keys,
                pooling,
            } => {
                let probe = QuestionProbe {
                    layers,
                    keys: *keys,
                    pooling: *pooling,
                };
                self.question_attention(ctx, plan, &probe)
            }
        }
    }

    fn layers(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        window: RowWindow,
        observe: Observer<'_, B>,
    ) -> Result<(), Interrupt> {
        let n_layers = ctx.decoder.config().num_hidden_layers;
        for layer_idx in 0..n_layers {
            ctx.check_stop()?;
            // 1. Stored KV of this layer, rotated to its positions.
            let placed = self.stored.take(ctx, &mut self.cache, layer_idx)?;
            // 2. K and V of the rows alive, written over it.
            let layer = ctx.decoder.layer(layer_idx);
            let mut normed = layer.pre_attention(self.hidden.clone()); // [alive, hidden_size]
            let fresh = layer.keys_values(normed.clone()); // [alive, kv_heads, head_dim]
            self.write(layer_idx, &fresh);
            self.show(observe, layer_idx, layer, &fresh, &normed);
            if let Some(placed) = placed {
                // 3. The other rows follow their chunk's recomputed ones.
                if self.correction == Correction::Mean {
                    self.correct(ctx, layer_idx, &fresh, &placed);
                }
                // 4. The policy chooses which rows go on.
                if let Some(kept) = self.compare(layer_idx, &fresh, &placed) {
                    normed = self.narrow(ctx, kept, normed);
                }
            }
            if layer_idx + 1 == n_layers {
                self.recomputed = self.alive_candidates();
                match window {
                    RowWindow::None => return Ok(()),
                    RowWindow::Alive => {}
                    RowWindow::Last => {
                        let last = self.alive.positions.last().copied();
                        normed = self.narrow(ctx, last.into_iter().collect(), normed);
                    }
                }
            }
            // 5. Attention and MLP of those rows.
            self.rows_forwarded += self.alive.positions.len();
            let (cache, hidden) = (self.cache.layer(layer_idx), self.hidden.clone());
            self.hidden = forward_tiled(ctx, layer, hidden, normed, &self.alive, cache);
        }
        Ok(())
    }

    fn write(&mut self, layer_idx: usize, (k, v): &Fresh<B>) {
        let rotated = self.alive.rope.rotate(k.clone());
        self.cache
            .layer_mut(layer_idx)
            .write(&self.alive.index, rotated, v.clone());
    }

    fn show(
        &self,
        observe: &mut dyn FnMut(LayerView<'_, B>),
        index: usize,
        layer: &DecoderLayer<B>,
        fresh: &Fresh<B>,
        normed: &Tensor<B, 2>,
    ) {
        observe(LayerView {
            index,
            layer,
            rows: &self.alive,
            fresh,
            normed,
            cache: self.cache.layer(index),
        });
    }

    /// The rows alive after the policy compared fresh and stored KV, ascending; `None` where it
    /// does not compare at this layer.
    fn compare(
        &mut self,
        layer_idx: usize,
        fresh: &Fresh<B>,
        placed: &Placed<B>,
    ) -> Option<Vec<usize>> {
        let selector = self.selector.as_ref()?;
        let wanted = selector.deviation_at(layer_idx)?;
        let compared = self.alive_candidates();
        if compared.is_empty() {
            return None;
        }
        let pair = Pair::of(&compared, &self.alive.positions, fresh, placed);
        let deviation = pair.distance(wanted);
        let kept = selector.keep(layer_idx, &compared, &deviation);
        self.deviation_left = Some(share_left(&compared, &deviation, &kept));
        let alive: BTreeSet<usize> = self.always.iter().copied().chain(kept).collect();
        Some(alive.into_iter().collect())
    }

    pub(super) fn alive_candidates(&self) -> Vec<usize> {
        let alive = self.alive.positions.iter().copied();
        alive
            .filter(|row| self.candidates.binary_search(row).is_ok())
            .collect()
    }

    /// Leaves only `kept` rows alive; returns their normed input.
    fn narrow(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        kept: Vec<usize>,
        normed: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        if kept == self.alive.positions {
            return normed;
        }
        let index = row_tensor::<B>(&indices(&kept, &self.alive.positions), &normed.device());
        self.hidden = self.hidden.clone().select(0, index.clone());
        self.alive = Rows::new(ctx, kept);
        normed.select(0, index)
    }

    /// Puts the KV of a prefix computed here into the prefix cache: it is exact.
    fn keep_prefix(&self, ctx: &mut FusionContext<'_, B>, plan: &FusionPlan) {
        let prefix = &plan.segments().prefix;
        if !self.prefix_cached && !prefix.is_empty() {
            ctx.prefixes
                .insert(prefix, self.cache.rows(0..prefix.len()));
        }
    }

    fn finish(self, plan: &FusionPlan, start: Instant) -> FusedPrefill<B> {
        let states = plan.chunk_states();
        let loads = *plan.mode() != Mode::Full;
        let is_hit = |state: &&ChunkState| matches!(state, ChunkState::Hit { .. });
        let chunks_hit = states.iter().filter(is_hit).count();
        let prefix_tokens = plan.segments().prefix.len();
        let (tokens_loaded, bytes_loaded) = (self.stored.n_tokens(), self.stored.bytes_loaded);
        let (_, load, load_wait) = self.stored.finish();
        let report = FuseReport {
            mode: plan.mode().clone(),
            prompt_tokens: plan.n_tokens(),
            prefix_tokens_cached: if self.prefix_cached { prefix_tokens } else { 0 },
            tokens_loaded,
            tokens_recomputed: self.recomputed.len(),
            tokens_prefilled: self.always.len(),
            bytes_loaded,
            chunks_hit: if loads { chunks_hit } else { 0 },
            chunks_missed: states.len() - chunks_hit,
            failed_chunks: Vec::new(),
            replans: 0,
            recomputed_rows: self.recomputed,
            rows_forwarded: self.rows_forwarded,
            deviation_left: self.deviation_left,
            timings: FuseTimings {
                load,
                load_wait,
                probe: self.probe,
                recompute: start.elapsed().saturating_sub(load_wait + self.probe),
                ..FuseTimings::default()
            },
        };
        FusedPrefill {
            cache: self.cache,
            hidden: Some(self.hidden),
            report,
        }
    }
}

/// Embeddings of the tokens at `positions`: `[m, hidden_size]`.
pub(super) fn embed<B: FusionBackend>(
    ctx: &FusionContext<'_, B>,
    plan: &FusionPlan,
    positions: &[usize],
) -> Tensor<B, 2> {
    let ids = plan.segments().token_ids();
    let ids: Vec<u32> = positions.iter().map(|&row| ids[row]).collect();
    ctx.decoder.embed(&ids)
}

/// Attention and MLP in tiles of at most `max_prefill_tokens` rows.
pub(super) fn forward_tiled<B: FusionBackend>(
    ctx: &FusionContext<'_, B>,
    layer: &DecoderLayer<B>,
    hidden: Tensor<B, 2>,
    normed: Tensor<B, 2>,
    rows: &Rows<B>,
    cache: &LayerCache<B>,
) -> Tensor<B, 2> {
    let [m, width] = hidden.dims();
    let device = hidden.device();
    let tiles = (0..m).step_by(ctx.max_prefill_tokens).map(|start| {
        let tile = start..(start + ctx.max_prefill_tokens).min(m);
        let cut = |x: &Tensor<B, 2>| x.clone().slice([tile.clone(), 0..width]);
        let indices: Vec<usize> = tile.clone().collect();
        let rope = rows.rope.select(&indices, &device);
        let positions = &rows.positions[tile.clone()];
        layer.forward_rows(cut(&hidden), cut(&normed), positions, &rope, cache)
    });
    let mut tiles: Vec<Tensor<B, 2>> = tiles.collect();
    if tiles.len() == 1 {
        tiles.remove(0)
    } else {
        Tensor::cat(tiles, 0)
    }
}

/// Of the deviation of `rows`, the share of those that are not in `kept`; both ascending. 0 where
/// nothing deviates. Deviations that are not finite are left out.
fn share_left(rows: &[usize], deviation: &[f32], kept: &[usize]) -> f64 {
    let (mut left, mut total) = (0.0, 0.0);
    for (row, &deviation) in rows.iter().zip(deviation) {
        let deviation = if deviation.is_finite() {
            f64::from(deviation)
        } else {
            0.0
        };
        total += deviation;
        if kept.binary_search(row).is_err() {
            left += deviation;
        }
    }
    if total > 0.0 { left / total } else { 0.0 }
}

/// Copies a cached prefix into the cache; whether there was one.
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
        cache
            .layer_mut(layer_idx)
            .write(&index, k.clone(), v.clone());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::share_left;

    #[test]
    fn what_is_left_is_the_part_of_rows_not_kept() {
        assert_eq!(share_left(&[3, 5, 9], &[1.0, 2.0, 5.0], &[9]), 0.375);
        assert_eq!(share_left(&[3, 5], &[f32::NAN, 2.0], &[3]), 1.0);
        assert_eq!(share_left(&[3, 5], &[0.0, 0.0], &[]), 0.0);
    }
}
