//! The layer loop: place what was loaded, compute the rows that are alive, let the policy choose.
//!
//! Full prefill, chunk-alone prefill, plain reuse and every fusion policy are this one loop with
//! different rows alive. CacheBlend section 4.2, under the exact mask.

use std::collections::BTreeSet;
use std::time::Instant;

use burn::tensor::{DType, Int, Tensor};

pub(crate) use super::loader::Sources;
use super::loader::{BadBlock, LayerReads, LoadedLayer, Loader};
use super::plan::{ChunkState, FusionPlan, Mode};
use super::policy::{self, Deviation, RowSelector};
use super::report::{FuseReport, FuseTimings};
use super::rows::{always_rows, candidates, indices, layer_reads};
use crate::error::EngineError;
use crate::kernel::FusionBackend;
use crate::kv::{KvCache, KvIdentity, PrefixCache, tensor_from_block};
use crate::model::{Decoder, RopeRows, RopeTable, row_tensor};

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

/// K (before RoPE) and V of the rows computed at one layer, with their positions.
pub(crate) type KvObserver<'a, B> = &'a mut dyn FnMut(&[usize], &Tensor<B, 3>, &Tensor<B, 3>);

impl<B: FusionBackend> FusionContext<'_, B> {
    /// Runs a plan. `capacity` tokens are reserved, prompt included; `observe` sees each layer's
    /// computed K and V.
    pub(crate) fn prefill(
        &mut self,
        plan: &FusionPlan,
        sources: Sources,
        capacity: usize,
        window: RowWindow,
        observe: KvObserver<'_, B>,
    ) -> Result<FusedPrefill<B>, FuseError> {
        let start = Instant::now();
        // 1. What is alive, what is loaded.
        let mut run = Run::start(self, plan, capacity);
        let mut loader = Loader::start(run.reads.clone(), sources, self.identity.clone());
        // 2. Layer by layer.
        let outcome = run.layers(self, &mut loader, window, observe);
        let (sources, load, load_wait) = loader.finish();
        match outcome {
            Ok(()) => {}
            Err(Interrupt::BadBlock(block)) => {
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
        let recompute = start.elapsed().saturating_sub(load_wait);
        let timings = FuseTimings {
            load,
            load_wait,
            recompute,
            ..FuseTimings::default()
        };
        Ok(run.finish(plan, timings))
    }
}

enum Interrupt {
    BadBlock(BadBlock),
    Stopped(EngineError),
}

/// Rows of the prompt with what is needed to place them.
struct Rows<B: FusionBackend> {
    positions: Vec<usize>, // ascending
    index: Tensor<B, 1, Int>,
    rope: RopeRows<B>,
}

impl<B: FusionBackend> Rows<B> {
    fn new(ctx: &mut FusionContext<'_, B>, positions: Vec<usize>) -> Self {
        let index = row_tensor(&positions, ctx.decoder.device());
        let rope = ctx.rope.rows(&positions);
        Self {
            positions,
            index,
            rope,
        }
    }
}

/// The stored KV of one layer on the device, K before RoPE.
struct Placed<B: FusionBackend> {
    rows: Vec<usize>,
    k: Tensor<B, 3>, // [rows, kv_heads, head_dim]
    v: Tensor<B, 3>,
}

/// The state of one prefill.
struct Run<B: FusionBackend> {
    cache: KvCache<B>,
    selector: Box<dyn RowSelector>,
    reads: Vec<LayerReads>,
    /// Rows computed at every layer: question, missed chunks, a prefix not cached.
    always: BTreeSet<usize>,
    /// Rows with stored KV that is not exact: what the policy decides about.
    candidates: BTreeSet<usize>,
    alive: Rows<B>,
    hidden: Tensor<B, 2>, // [alive, hidden_size]
    loaded: Option<Rows<B>>,
    recomputed: Vec<usize>,
    prefix_cached: bool,
    bytes_loaded: u64,
}

impl<B: FusionBackend> Run<B> {
    fn start(ctx: &mut FusionContext<'_, B>, plan: &FusionPlan, capacity: usize) -> Self {
        let decoder = ctx.decoder;
        let n_layers = decoder.config().num_hidden_layers;
        let mut cache = KvCache::new(
            decoder.config(),
            capacity,
            decoder.dtype(),
            decoder.device(),
        );
        let prefix_cached = place_prefix(ctx, plan, &mut cache);

        let candidates = candidates(plan, n_layers);
        let candidate_rows: BTreeSet<usize> = candidates.rows().into_iter().collect();
        let selector = match plan.mode() {
            Mode::Full | Mode::Reuse => policy::none(),
            Mode::Blend { policy, .. } => policy::selector(policy, candidates),
        };
        let always = always_rows(plan, prefix_cached);
        let reads = layer_reads(plan, selector.first_loaded_layer(), n_layers);
        let alive: BTreeSet<usize> = always
            .iter()
            .copied()
            .chain(selector.initial_rows())
            .collect();
        let alive: Vec<usize> = alive.into_iter().collect();
        let ids = plan.segments().token_ids();
        let alive_ids: Vec<u32> = alive.iter().map(|&row| ids[row]).collect();
        Self {
            cache,
            selector,
            reads,
            always,
            candidates: candidate_rows,
            hidden: decoder.embed(&alive_ids),
            alive: Rows::new(ctx, alive),
            loaded: None,
            recomputed: Vec::new(),
            prefix_cached,
            bytes_loaded: 0,
        }
    }

    fn layers(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        loader: &mut Loader,
        window: RowWindow,
        observe: KvObserver<'_, B>,
    ) -> Result<(), Interrupt> {
        let n_layers = ctx.decoder.config().num_hidden_layers;
        for layer_idx in 0..n_layers {
            if let Some(error) = (ctx.stop)() {
                return Err(Interrupt::Stopped(error));
            }
            // 1. Stored KV of this layer, rotated to its positions.
            let placed = self.place(ctx, loader, layer_idx)?;
            // 2. K and V of the rows alive, written over it.
            let layer = ctx.decoder.layer(layer_idx);
            let mut normed = layer.pre_attention(self.hidden.clone()); // [alive, hidden_size]
            let (k, v) = layer.keys_values(normed.clone()); // [alive, kv_heads, head_dim]
            observe(&self.alive.positions, &k, &v);
            let rotated = self.alive.rope.rotate(k.clone());
            self.cache
                .layer_mut(layer_idx)
                .write(&self.alive.index, rotated, v.clone());
            // 3. The policy chooses which rows go on.
            if let (Some(placed), Some(wanted)) = (placed, self.selector.deviation_at(layer_idx)) {
                let kept = self.choose(layer_idx, wanted, &placed, (k, v));
                normed = self.narrow(ctx, kept, normed);
            }
            if layer_idx + 1 == n_layers {
                self.recomputed = self.alive_candidates();
                match window {
                    RowWindow::None => return Ok(()),
                    RowWindow::Alive => {}
                    RowWindow::Last => {
                        let last: Vec<usize> =
                            self.alive.positions.last().copied().into_iter().collect();
                        normed = self.narrow(ctx, last, normed);
                    }
                }
            }
            // 4. Attention and MLP of those rows.
            self.forward(ctx, layer_idx, normed);
        }
        Ok(())
    }

    /// Writes the stored KV of a layer into the cache, if the plan reads any at this layer.
    fn place(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        loader: &mut Loader,
        layer_idx: usize,
    ) -> Result<Option<Placed<B>>, Interrupt> {
        if !self.reads.iter().any(|read| read.layer == layer_idx) {
            return Ok(None);
        }
        let LoadedLayer { rows, k, v, bytes } = loader.next().map_err(Interrupt::BadBlock)?;
        self.bytes_loaded += bytes;
        let device = ctx.decoder.device();
        let shape = [rows.len(), ctx.identity.kv_heads, ctx.identity.head_dim];
        let k = tensor_from_block::<B>(k, shape, ctx.identity, device);
        let v = tensor_from_block::<B>(v, shape, ctx.identity, device);
        if self
            .loaded
            .as_ref()
            .is_none_or(|loaded| loaded.positions != rows)
        {
            self.loaded = Some(Rows::new(ctx, rows.clone()));
        }
        if let Some(loaded) = &self.loaded {
            let rotated = loaded.rope.rotate(k.clone());
            self.cache
                .layer_mut(layer_idx)
                .write(&loaded.index, rotated, v.clone());
        }
        Ok(Some(Placed { rows, k, v }))
    }

    /// The rows alive after the policy compared fresh and stored KV, ascending.
    fn choose(
        &self,
        layer_idx: usize,
        wanted: Deviation,
        placed: &Placed<B>,
        fresh: (Tensor<B, 3>, Tensor<B, 3>),
    ) -> Vec<usize> {
        let compared = self.alive_candidates();
        if compared.is_empty() {
            return self.alive.positions.clone();
        }
        let of_fresh = indices(&compared, &self.alive.positions);
        let of_placed = indices(&compared, &placed.rows);
        let device = placed.k.device();
        let (of_fresh, of_placed) = (
            row_tensor::<B>(&of_fresh, &device),
            row_tensor::<B>(&of_placed, &device),
        );
        let distance = |fresh: Tensor<B, 3>, stored: Tensor<B, 3>| {
            squared_distance(
                fresh.select(0, of_fresh.clone()),
                stored.select(0, of_placed.clone()),
            )
        };
        let (k, v) = fresh;
        let deviation = match wanted {
            Deviation::K => distance(k, placed.k.clone()),
            Deviation::V => distance(v, placed.v.clone()),
            Deviation::Kv => distance(k, placed.k.clone()) + distance(v, placed.v.clone()),
        };
        let deviation = deviation.into_data().iter::<f32>().collect::<Vec<f32>>();
        let kept = self.selector.keep(layer_idx, &compared, &deviation);
        let alive: BTreeSet<usize> = self.always.iter().copied().chain(kept).collect();
        alive.into_iter().collect()
    }

    fn alive_candidates(&self) -> Vec<usize> {
        let alive = self.alive.positions.iter().copied();
        alive.filter(|row| self.candidates.contains(row)).collect()
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

    /// Attention and MLP in tiles of at most `max_prefill_tokens` rows.
    fn forward(&mut self, ctx: &FusionContext<'_, B>, layer_idx: usize, normed: Tensor<B, 2>) {
        let layer = ctx.decoder.layer(layer_idx);
        let cache = self.cache.layer(layer_idx);
        let [m, width] = self.hidden.dims();
        let device = self.hidden.device();
        let tiles = (0..m).step_by(ctx.max_prefill_tokens).map(|start| {
            let rows = start..(start + ctx.max_prefill_tokens).min(m);
            let cut = |x: &Tensor<B, 2>| x.clone().slice([rows.clone(), 0..width]);
            let indices: Vec<usize> = rows.clone().collect();
            let rope = self.alive.rope.select(&indices, &device);
            let positions = &self.alive.positions[rows.clone()];
            layer.forward_rows(cut(&self.hidden), cut(&normed), positions, &rope, cache)
        });
        let mut tiles: Vec<Tensor<B, 2>> = tiles.collect();
        self.hidden = if tiles.len() == 1 {
            tiles.remove(0)
        } else {
            Tensor::cat(tiles, 0)
        };
    }

    /// Puts the KV of a prefix computed here into the prefix cache: it is exact.
    fn keep_prefix(&self, ctx: &mut FusionContext<'_, B>, plan: &FusionPlan) {
        let prefix = &plan.segments().prefix;
        if !self.prefix_cached && !prefix.is_empty() {
            ctx.prefixes
                .insert(prefix, self.cache.rows(0..prefix.len()));
        }
    }

    fn finish(self, plan: &FusionPlan, timings: FuseTimings) -> FusedPrefill<B> {
        let states = plan.chunk_states();
        let loads = *plan.mode() != Mode::Full;
        let is_hit = |state: &&ChunkState| matches!(state, ChunkState::Hit { .. });
        let chunks_hit = states.iter().filter(is_hit).count();
        let report = FuseReport {
            mode: plan.mode().clone(),
            prompt_tokens: plan.n_tokens(),
            prefix_tokens_cached: if self.prefix_cached {
                plan.segments().prefix.len()
            } else {
                0
            },
            tokens_loaded: self.loaded.map_or(0, |loaded| loaded.positions.len()),
            tokens_recomputed: self.recomputed.len(),
            tokens_prefilled: self.always.len(),
            bytes_loaded: self.bytes_loaded,
            chunks_hit: if loads { chunks_hit } else { 0 },
            chunks_missed: states.len() - chunks_hit,
            failed_chunks: Vec::new(),
            replans: 0,
            recomputed_rows: self.recomputed,
            timings,
        };
        FusedPrefill {
            cache: self.cache,
            hidden: Some(self.hidden),
            report,
        }
    }
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

/// Squared L2 distance per row, in f32: `[m, heads, head_dim]` twice to `[m]`.
fn squared_distance<B: FusionBackend>(a: Tensor<B, 3>, b: Tensor<B, 3>) -> Tensor<B, 1> {
    let [m, heads, head_dim] = a.dims();
    let difference = a.cast(DType::F32) - b.cast(DType::F32);
    difference
        .square()
        .reshape([m, heads * head_dim])
        .sum_dim(1)
        .reshape([m])
}
