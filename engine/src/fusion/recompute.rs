//! The layer loop: place what was loaded, compute the rows that are alive, let the policy choose.
//!
//! Full prefill, chunk-alone prefill, plain reuse and every fusion policy are this one loop with
//! different rows alive. CacheBlend section 4.2, under the exact mask.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;

use super::blend::Mode;
use super::deviation::Fresh;
use super::loader::Loader;
use super::plan::{ChunkState, FusionPlan};
use super::policy::Selector;
use super::prefill::{FusedPrefill, FusionContext, Interrupt, LayerView, Observer, RowWindow};
use super::report::{FuseReport, FuseTimings};
use super::rows::{always_rows, candidates, indices};
use super::selection::Correction;
use super::stored::{Rows, Stored};
use crate::kernel::FusionBackend;
use crate::kv::{KvCache, LayerCache};
use crate::model::{DecoderLayer, row_tensor};

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
    pub hidden: Tensor<B, 2>, // [alive, hidden_size]
    pub selector: Option<Selector>,
    correction: Correction,
    recomputed: Vec<usize>,
    prefix_cached: bool,
    pub deviation_left: Option<f64>,
    pub probe: Duration,
    /// Rows through attention and MLP so far, over all layers.
    pub rows_forwarded: usize,
}

impl<B: FusionBackend> Run<B> {
    pub(super) fn start(
        ctx: &mut FusionContext<'_, B>,
        plan: &FusionPlan,
        loader: Loader,
        capacity: usize,
    ) -> Self {
        let decoder = ctx.decoder;
        let n_layers = decoder.config().num_hidden_layers;
        let compares_at = |layer| match plan.mode() {
            Mode::Full | Mode::Reuse => false,
            Mode::Blend(blend) => blend.selection.compares_at(layer),
        };
        let stored = Stored::new(loader, (0..n_layers).map(compares_at).collect());
        let (dtype, device) = (decoder.dtype(), decoder.device());
        let new = || KvCache::new(decoder.config(), capacity, dtype, device);
        let mut cache = ctx.spare.take(capacity, device).unwrap_or_else(new);
        let prefix_cached = place_prefix(ctx, plan, &mut cache);
        let candidates = candidates(plan, n_layers);
        let correction = match plan.mode() {
            Mode::Full | Mode::Reuse => Correction::None,
            Mode::Blend(blend) => blend.selection.correction,
        };
        let always = always_rows(plan, prefix_cached);
        let alive = Rows::new(ctx, always.iter().copied().collect());
        Self {
            cache,
            stored,
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

    pub(super) fn layers(
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
        let rotation = self.alive.rope.rotation();
        let layer = self.cache.layer_mut(layer_idx);
        layer.write_fresh(&self.alive.index, k.clone(), v.clone(), &rotation);
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
    pub(super) fn keep_prefix(&self, ctx: &mut FusionContext<'_, B>, plan: &FusionPlan) {
        let prefix = &plan.segments().prefix;
        if !self.prefix_cached && !prefix.is_empty() {
            ctx.prefixes
                .insert(prefix, self.cache.rows(0..prefix.len()));
        }
    }

    pub(super) fn finish(self, plan: &FusionPlan, start: Instant) -> FusedPrefill<B> {
        let states = plan.chunk_states();
        let loads = *plan.mode() != Mode::Full;
        let is_hit = |state: &&ChunkState| matches!(state, ChunkState::Hit { .. });
        let chunks_hit = states.iter().filter(is_hit).count();
        let prefix_tokens = plan.segments().prefix.len();
        let tokens_loaded = self.stored.n_tokens();
        let (_, loaded) = self.stored.finish();
        let (load, load_wait) = (loaded.load, loaded.wait);
        let report = FuseReport {
            mode: plan.mode().clone(),
            prompt_tokens: plan.n_tokens(),
            prefix_tokens_cached: if self.prefix_cached { prefix_tokens } else { 0 },
            tokens_loaded,
            tokens_recomputed: self.recomputed.len(),
            tokens_prefilled: self.always.len(),
            bytes_loaded: loaded.bytes_from_memory + loaded.bytes_from_disk,
            bytes_from_memory: loaded.bytes_from_memory,
            bytes_from_disk: loaded.bytes_from_disk,
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

/// Attention and MLP in tiles of at most `max_prefill_tokens` rows; as they are where one holds all.
pub(super) fn forward_tiled<B: FusionBackend>(
    ctx: &FusionContext<'_, B>,
    layer: &DecoderLayer<B>,
    hidden: Tensor<B, 2>,
    normed: Tensor<B, 2>,
    rows: &Rows<B>,
    cache: &LayerCache<B>,
) -> Tensor<B, 2> {
    let [m, width] = hidden.dims();
    if m <= ctx.max_prefill_tokens {
        return layer.forward_rows(hidden, normed, &rows.positions, &rows.rope, cache);
    }
    let device = hidden.device();
    let tiles = (0..m).step_by(ctx.max_prefill_tokens).map(|start| {
        let tile = start..(start + ctx.max_prefill_tokens).min(m);
        let cut = |x: &Tensor<B, 2>| x.clone().slice([tile.clone(), 0..width]);
        let indices: Vec<usize> = tile.clone().collect();
        let rope = rows.rope.select(&indices, &device);
        let positions = &rows.positions[tile.clone()];
        layer.forward_rows(cut(&hidden), cut(&normed), positions, &rope, cache)
    });
    Tensor::cat(tiles.collect(), 0)
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
