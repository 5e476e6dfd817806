//! The one executor of layers: full prefill, chunk prefill, reuse, every policy, probes, deviation maps and decode
//! steps all run their rows through it (CacheBlend section 4.2, under the exact mask).
//!
//! [`advance`] runs one layer for the rows of several sequences at once: norms, projections and MLP over all of them,
//! attention of each over its own cache. A caller can stop after any layer and continue later.

use burn::tensor::Tensor;

use super::context::FusionContext;
use super::interrupt::{Interrupt, StopCheck};
use super::live_rows::LiveRows;
use super::rows::{Fresh, Rows};
use super::schedule::{Forward, LayerStep};
use super::tiles::{forward_tiled, joined, split};
use crate::error::EngineError;
use crate::kernel::FusionBackend;
use crate::kv::{KvCache, LayerCache};
use crate::model::{DecoderLayer, SequenceRows, row_tensor};

/// A layer as hooks see it, once K and V of its rows are in the cache.
pub(crate) struct LayerView<'a, B: FusionBackend> {
    pub step: &'a LayerStep,
    pub layer: &'a DecoderLayer<B>,
    pub rows: &'a Rows<B>,
    /// K (before RoPE) and V of the rows: `[m, kv_heads, head_dim]`.
    pub fresh: &'a Fresh<B>,
    pub normed: &'a Tensor<B, 2>, // [m, hidden_size]
}

impl<B: FusionBackend> LayerView<'_, B> {
    /// The output of attention at the last row, before its projection: `[heads * head_dim]`.
    pub(crate) fn last_attended(&self, cache: &LayerCache<B>) -> Vec<f32> {
        let (device, positions) = (self.normed.device(), &self.rows.positions);
        let last = positions.len() - 1;
        let normed = self.normed.clone().select(0, row_tensor(&[last], &device));
        let rows = SequenceRows {
            positions: &positions[last..],
            rope: &self.rows.rope.select(&[last], &device),
            cache,
        };
        let attended = self.layer.attend(normed, &[rows]);
        attended.into_data().iter::<f32>().collect()
    }
}

/// What a pass does at a layer besides computing its rows.
pub(crate) trait LayerHooks<B: FusionBackend> {
    /// Places the stored KV of the layer, and waits for it as long as `stop` lets it. Called a second time for a layer,
    /// it places nothing twice.
    fn place(
        &mut self,
        _ctx: &mut FusionContext<'_, B>,
        _layer_idx: usize,
        _cache: &mut KvCache<B>,
        _stop: StopCheck<'_>,
    ) -> Result<(), Interrupt> {
        Ok(())
    }

    /// Looks at the rows before attention. Returns the rows that go on, ascending, or `None` if all do.
    fn look(
        &mut self,
        _ctx: &mut FusionContext<'_, B>,
        _view: &LayerView<'_, B>,
        _cache: &mut KvCache<B>,
    ) -> Option<Vec<usize>> {
        None
    }
}

/// No hooks: the pass only computes, as in a decode step.
pub(crate) struct NoHooks;

impl<B: FusionBackend> LayerHooks<B> for NoHooks {}

/// One sequence in a call of [`advance`].
pub(crate) struct BatchEntry<'a, B: FusionBackend> {
    live: &'a mut LiveRows<B>,
    /// Where the rows' K and V are written, and what they attend to.
    cache: &'a mut KvCache<B>,
    hooks: Box<dyn LayerHooks<B> + 'a>,
    /// Whether this sequence is still wanted: asked before each layer, and while stored KV is waited for.
    stop: StopCheck<'a>,
}

/// A sequence that cannot go on. No row of any sequence has been computed at this layer: the call can be repeated with
/// the others.
#[derive(Debug)]
pub(crate) struct Halt {
    /// Its index in the batch.
    #[cfg_attr(not(test), expect(dead_code, reason = "for callers with several"))]
    pub index: usize,
    pub interrupt: Interrupt,
}

impl Halt {
    /// The error of a sequence that reads no stored KV.
    pub(crate) fn into_error(self) -> EngineError {
        match self.interrupt {
            Interrupt::Stopped(error) => error,
            Interrupt::BadBlock(block) => EngineError::Device {
                message: block.error.to_string(),
            },
        }
    }
}

/// Runs the next layer of each entry.
///
/// # Panics
/// If not all of them are at the same layer: one layer's weights would write to another layer's cache.
pub(crate) fn advance<B: FusionBackend>(
    ctx: &mut FusionContext<'_, B>,
    batch: &mut [BatchEntry<'_, B>],
) -> Result<(), Halt> {
    let Some(layer_idx) = batch.first().and_then(BatchEntry::layer_idx) else {
        return Ok(());
    };
    let is_here = |entry: &BatchEntry<'_, B>| entry.layer_idx() == Some(layer_idx);
    assert!(
        batch.iter().all(is_here),
        "all sequences are at layer {layer_idx}"
    );
    let layer = ctx.decoder.layer(layer_idx);
    // 1. Stored KV of this layer, rotated to its positions.
    for (index, entry) in batch.iter_mut().enumerate() {
        let placed = entry.place(ctx, layer_idx);
        placed.map_err(|interrupt| Halt { index, interrupt })?;
    }
    // 2. K and V of the rows still alive, for all sequences at once.
    let n_rows: Vec<usize> = batch.iter().map(BatchEntry::n_rows).collect();
    let hidden = batch.iter().filter_map(|entry| entry.live.hidden.clone());
    let normed = layer.pre_attention(joined(hidden.collect())); // [all rows, hidden_size]
    let (k, v) = layer.keys_values(normed.clone()); // [all rows, kv_heads, head_dim]
    let fresh = split(k, &n_rows).into_iter().zip(split(v, &n_rows));
    // 3. Each sequence writes its own, looks at them, and decides which rows go on.
    let mut onward = Vec::with_capacity(batch.len());
    for ((entry, normed), fresh) in batch.iter_mut().zip(split(normed, &n_rows)).zip(fresh) {
        onward.push(entry.write_and_narrow(ctx, layer, &fresh, normed));
    }
    // 4. Attention and MLP of those rows.
    forward(ctx, layer, batch, onward);
    for entry in batch {
        entry.live.next += 1;
    }
    Ok(())
}

impl<'a, B: FusionBackend> BatchEntry<'a, B> {
    pub(crate) fn new(
        live: &'a mut LiveRows<B>,
        cache: &'a mut KvCache<B>,
        hooks: impl LayerHooks<B> + 'a,
        stop: StopCheck<'a>,
    ) -> Self {
        Self {
            live,
            cache,
            stop,
            hooks: Box::new(hooks),
        }
    }

    fn layer_idx(&self) -> Option<usize> {
        self.live.step().map(|step| step.layer_idx)
    }

    fn n_rows(&self) -> usize {
        self.live.rows.positions.len()
    }

    fn place(&mut self, ctx: &mut FusionContext<'_, B>, layer_idx: usize) -> Result<(), Interrupt> {
        match (self.stop)() {
            Some(error) => Err(Interrupt::Stopped(error)),
            None => self.hooks.place(ctx, layer_idx, self.cache, self.stop),
        }
    }

    /// Writes K and V of the rows, and narrows the rows to those that go on. Returns their normed input, if any go on.
    fn write_and_narrow(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        layer: &DecoderLayer<B>,
        fresh: &Fresh<B>,
        normed: Tensor<B, 2>,
    ) -> Option<Tensor<B, 2>> {
        let steps = self.live.steps.clone();
        let step = &steps[self.live.next];
        let rows = &self.live.rows;
        let (k, v) = fresh.clone();
        let cache = self.cache.layer_mut(step.layer_idx);
        cache.write_fresh(&rows.index, k, v, &layer.rotation(&rows.rope));
        let view = LayerView {
            step,
            layer,
            rows,
            fresh,
            normed: &normed,
        };
        let normed = match self.hooks.look(ctx, &view, self.cache) {
            Some(kept) => self.live.narrow(ctx, kept, normed),
            None => normed,
        };
        match step.forward {
            Forward::Alive => Some(normed),
            Forward::Last => {
                let last = self.live.rows.positions.last().copied();
                Some(self.live.narrow(ctx, last.into_iter().collect(), normed))
            }
            Forward::None => None,
        }
    }

    /// The layer's cache restricted to what the rows see; `None` if they see all of it.
    fn packed(&self) -> Option<LayerCache<B>> {
        let (held, index) = self.live.sees.as_ref()?;
        let layer = self.cache.layer(self.layer_idx()?);
        Some(layer.packed(held, index))
    }
}

/// Attention and MLP of the rows that go on: all rows of each sequence that has a normed input.
fn forward<B: FusionBackend>(
    ctx: &FusionContext<'_, B>,
    layer: &DecoderLayer<B>,
    batch: &mut [BatchEntry<'_, B>],
    normed: Vec<Option<Tensor<B, 2>>>,
) {
    let onward = batch.iter_mut().zip(normed);
    let (mut batch, normed): (Vec<&mut BatchEntry<'_, B>>, Vec<Tensor<B, 2>>) = onward
        .filter_map(|(entry, normed)| Some((entry, normed?)))
        .unzip();
    if batch.is_empty() {
        return;
    }
    // Taken, not cloned: without another owner the layer may add to it in place.
    let hidden = batch
        .iter_mut()
        .filter_map(|entry| entry.live.hidden.take());
    let hidden = joined(hidden.collect()); // [all rows, hidden_size]
    let packed: Vec<Option<LayerCache<B>>> = batch.iter().map(|entry| entry.packed()).collect();
    let sequences = batch.iter().zip(&packed).map(|(entry, packed)| {
        let rows = &entry.live.rows;
        let layer_idx = entry.layer_idx().unwrap_or_default();
        SequenceRows {
            positions: &rows.positions,
            rope: &rows.rope,
            cache: packed
                .as_ref()
                .unwrap_or_else(|| entry.cache.layer(layer_idx)),
        }
    });
    let sequences: Vec<SequenceRows<'_, B>> = sequences.collect();
    let hidden = forward_tiled(ctx, layer, hidden, joined(normed), &sequences);
    let n_rows: Vec<usize> = batch.iter().map(|entry| entry.n_rows()).collect();
    for (entry, hidden) in batch.iter_mut().zip(split(hidden, &n_rows)) {
        entry.live.rows_forwarded += entry.n_rows();
        entry.live.hidden = Some(hidden);
    }
}
