//! The one executor of layers: full prefill, chunk prefill, reuse, every policy, probes, deviation maps and decode
//! steps all run their rows through it (CacheBlend section 4.2, under the exact mask).
//!
//! [`advance`] runs one layer for the rows of several sequences at once: norms, projections and MLP over all of them,
//! attention of each over its own cache. A caller can stop after any layer and continue later.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Int, Tensor};

use super::context::FusionContext;
use super::interrupt::Interrupt;
use super::rows::{Fresh, Rows, indices};
use super::schedule::{Forward, LayerStep, Pass};
use crate::error::EngineError;
use crate::kernel::FusionBackend;
use crate::kv::{KvCache, LayerCache};
use crate::model::{DecoderLayer, RopeRows, SequenceRows, row_tensor};

/// The rows of one sequence between two layers of a pass.
pub(crate) struct Flight<B: FusionBackend> {
    steps: Arc<[LayerStep]>,
    /// Index of the step that runs next.
    next: usize,
    pub rows: Rows<B>,
    /// `[rows, hidden_size]`; absent only while a layer runs.
    hidden: Option<Tensor<B, 2>>,
    /// The positions that the rows may attend to, and the same as a tensor; if absent, all before them.
    sees: Option<(Arc<[usize]>, Tensor<B, 1, Int>)>,
    /// Rows that have gone through attention and MLP so far, summed over layers.
    pub rows_forwarded: usize,
}

impl<B: FusionBackend> Flight<B> {
    /// Rows before the first layer. `ids`: the token at each of `positions`, which are ascending.
    pub(crate) fn start(
        ctx: &mut FusionContext<'_, B>,
        steps: Arc<[LayerStep]>,
        positions: Vec<usize>,
        ids: &[u32],
    ) -> Self {
        Self {
            hidden: Some(ctx.decoder.embed(ids)),
            rows: Rows::new(ctx, positions),
            next: 0,
            sees: None,
            rows_forwarded: 0,
            steps,
        }
    }

    /// The rows of a pass of a prompt: its fixed rows and the `chosen` candidates.
    pub(super) fn of_pass(
        ctx: &mut FusionContext<'_, B>,
        pass: &Pass,
        chosen: &[usize],
        prompt_ids: &[u32],
    ) -> Self {
        let positions = merged(&pass.fixed, chosen);
        let ids: Vec<u32> = positions.iter().map(|&row| prompt_ids[row]).collect();
        let device = ctx.decoder.device();
        let sees = pass.sees.clone();
        let sees = sees.map(|held| (held.clone(), row_tensor::<B>(&held, device)));
        Self {
            sees,
            ..Self::start(ctx, pass.steps.clone(), positions, &ids)
        }
    }

    /// The step that runs next; `None` after the last one.
    pub(crate) fn step(&self) -> Option<&LayerStep> {
        self.steps.get(self.next)
    }

    /// The rows after the last layer: `[rows, hidden_size]`.
    pub(crate) fn into_hidden(self) -> Option<Tensor<B, 2>> {
        self.hidden
    }

    /// Leaves only `kept` rows alive, ascending; returns their normed input.
    fn narrow(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        kept: Vec<usize>,
        normed: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        if kept == self.rows.positions {
            return normed;
        }
        let index = row_tensor::<B>(&indices(&kept, &self.rows.positions), &normed.device());
        self.hidden = self.hidden.take().map(|x| x.select(0, index.clone()));
        self.rows = Rows::new(ctx, kept);
        normed.select(0, index)
    }
}

/// Merges two ascending lists without common elements.
fn merged(fixed: &[usize], chosen: &[usize]) -> Vec<usize> {
    let mut rows = [fixed, chosen].concat();
    rows.sort_unstable();
    rows.dedup();
    rows
}

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
    /// Places the stored KV of the layer. When called again after another sequence was interrupted, it places nothing
    /// twice.
    fn place(
        &mut self,
        _ctx: &mut FusionContext<'_, B>,
        _layer_idx: usize,
        _cache: &mut KvCache<B>,
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
pub(crate) struct Lane<'a, B: FusionBackend> {
    flight: &'a mut Flight<B>,
    /// Where the rows' K and V are written, and what they attend to.
    cache: &'a mut KvCache<B>,
    hooks: Box<dyn LayerHooks<B> + 'a>,
}

/// A sequence that cannot go on. No row of any sequence has been computed at this layer, so the others can be
/// advanced again without it.
#[derive(Debug)]
pub(crate) struct Halt {
    /// Its index in the list of lanes.
    #[cfg_attr(not(test), expect(dead_code, reason = "for callers with several"))]
    pub lane: usize,
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

/// Runs the next layer of each lane; all lanes must be at the same layer.
pub(crate) fn advance<B: FusionBackend>(
    ctx: &mut FusionContext<'_, B>,
    lanes: &mut [Lane<'_, B>],
) -> Result<(), Halt> {
    let Some(layer_idx) = lanes.first().and_then(Lane::layer_idx) else {
        return Ok(());
    };
    debug_assert!(lanes.iter().all(|lane| lane.layer_idx() == Some(layer_idx)));
    let layer = ctx.decoder.layer(layer_idx);
    // 1. Stored KV of this layer, rotated to its positions.
    for (lane, sequence) in lanes.iter_mut().enumerate() {
        let placed = sequence.place(ctx, layer_idx);
        placed.map_err(|interrupt| Halt { lane, interrupt })?;
    }
    // 2. K and V of the rows still alive, for all lanes at once.
    let n_rows: Vec<usize> = lanes.iter().map(Lane::n_rows).collect();
    let hidden = lanes.iter().filter_map(|lane| lane.flight.hidden.clone());
    let normed = layer.pre_attention(joined(hidden.collect())); // [all rows, hidden_size]
    let (k, v) = layer.keys_values(normed.clone()); // [all rows, kv_heads, head_dim]
    let fresh = split(k, &n_rows).into_iter().zip(split(v, &n_rows));
    // 3. Each lane writes its own rows, lets its hooks look at them, and decides which go on.
    let mut onward = Vec::with_capacity(lanes.len());
    for ((lane, normed), fresh) in lanes.iter_mut().zip(split(normed, &n_rows)).zip(fresh) {
        onward.push(lane.look(ctx, layer, &fresh, normed));
    }
    // 4. Attention and MLP of those rows.
    forward(ctx, layer, lanes, onward);
    for lane in lanes {
        lane.flight.next += 1;
    }
    Ok(())
}

impl<'a, B: FusionBackend> Lane<'a, B> {
    pub(crate) fn new(
        flight: &'a mut Flight<B>,
        cache: &'a mut KvCache<B>,
        hooks: impl LayerHooks<B> + 'a,
    ) -> Self {
        Self {
            flight,
            cache,
            hooks: Box::new(hooks),
        }
    }

    fn layer_idx(&self) -> Option<usize> {
        self.flight.step().map(|step| step.layer_idx)
    }

    fn n_rows(&self) -> usize {
        self.flight.rows.positions.len()
    }

    fn place(&mut self, ctx: &mut FusionContext<'_, B>, layer_idx: usize) -> Result<(), Interrupt> {
        ctx.check_stop()?;
        self.hooks.place(ctx, layer_idx, self.cache)
    }

    /// Writes K and V of the rows and narrows the rows to those that go on. Returns their normed input, if any go on.
    fn look(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        layer: &DecoderLayer<B>,
        fresh: &Fresh<B>,
        normed: Tensor<B, 2>,
    ) -> Option<Tensor<B, 2>> {
        let steps = self.flight.steps.clone();
        let step = &steps[self.flight.next];
        let rows = &self.flight.rows;
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
            Some(kept) => self.flight.narrow(ctx, kept, normed),
            None => normed,
        };
        match step.forward {
            Forward::Alive => Some(normed),
            Forward::Last => {
                let last = self.flight.rows.positions.last().copied();
                Some(self.flight.narrow(ctx, last.into_iter().collect(), normed))
            }
            Forward::None => None,
        }
    }

    /// The layer's cache restricted to what the rows see; `None` if they see all of it.
    fn packed(&self) -> Option<LayerCache<B>> {
        let (held, index) = self.flight.sees.as_ref()?;
        let layer = self.cache.layer(self.layer_idx()?);
        Some(layer.packed(held, index))
    }
}

/// Attention and MLP of the rows that go on: all rows of each lane that has a normed input.
fn forward<B: FusionBackend>(
    ctx: &FusionContext<'_, B>,
    layer: &DecoderLayer<B>,
    lanes: &mut [Lane<'_, B>],
    normed: Vec<Option<Tensor<B, 2>>>,
) {
    let onward = lanes.iter_mut().zip(normed);
    let (mut lanes, normed): (Vec<&mut Lane<'_, B>>, Vec<Tensor<B, 2>>) = onward
        .filter_map(|(lane, normed)| Some((lane, normed?)))
        .unzip();
    if lanes.is_empty() {
        return;
    }
    // Taken, not cloned: without another owner the layer may add to it in place.
    let hidden = lanes
        .iter_mut()
        .filter_map(|lane| lane.flight.hidden.take());
    let hidden = joined(hidden.collect()); // [all rows, hidden_size]
    let packed: Vec<Option<LayerCache<B>>> = lanes.iter().map(|lane| lane.packed()).collect();
    let sequences = lanes.iter().zip(&packed).map(|(lane, packed)| {
        let rows = &lane.flight.rows;
        let layer_idx = lane.layer_idx().unwrap_or_default();
        SequenceRows {
            positions: &rows.positions,
            rope: &rows.rope,
            cache: packed
                .as_ref()
                .unwrap_or_else(|| lane.cache.layer(layer_idx)),
        }
    });
    let sequences: Vec<SequenceRows<'_, B>> = sequences.collect();
    let hidden = forward_tiled(ctx, layer, hidden, joined(normed), &sequences);
    let n_rows: Vec<usize> = lanes.iter().map(|lane| lane.n_rows()).collect();
    for (lane, hidden) in lanes.iter_mut().zip(split(hidden, &n_rows)) {
        lane.flight.rows_forwarded += lane.n_rows();
        lane.flight.hidden = Some(hidden);
    }
}

/// Attention and MLP in tiles of at most `max_prefill_tokens` rows; without a split if one tile holds all rows.
fn forward_tiled<B: FusionBackend>(
    ctx: &FusionContext<'_, B>,
    layer: &DecoderLayer<B>,
    hidden: Tensor<B, 2>,
    normed: Tensor<B, 2>,
    sequences: &[SequenceRows<'_, B>],
) -> Tensor<B, 2> {
    let [m, width] = hidden.dims();
    if m <= ctx.max_prefill_tokens {
        return layer.forward_rows(hidden, normed, sequences);
    }
    let device = hidden.device();
    let tiles = (0..m).step_by(ctx.max_prefill_tokens).map(|start| {
        let tile = start..(start + ctx.max_prefill_tokens).min(m);
        let cut = |x: &Tensor<B, 2>| x.clone().slice([tile.clone(), 0..width]);
        let parts = within(&tile, sequences, &device);
        let sequences: Vec<SequenceRows<'_, B>> = parts.iter().map(Part::as_rows).collect();
        layer.forward_rows(cut(&hidden), cut(&normed), &sequences)
    });
    Tensor::cat(tiles.collect(), 0)
}

/// The rows of one sequence that are in a tile.
struct Part<'a, B: FusionBackend> {
    positions: &'a [usize],
    rope: RopeRows<B>,
    cache: &'a LayerCache<B>,
}

impl<B: FusionBackend> Part<'_, B> {
    fn as_rows(&self) -> SequenceRows<'_, B> {
        SequenceRows {
            positions: self.positions,
            rope: &self.rope,
            cache: self.cache,
        }
    }
}

/// The parts of `sequences`, whose rows follow one another, that lie in a tile.
fn within<'a, B: FusionBackend>(
    tile: &Range<usize>,
    sequences: &[SequenceRows<'a, B>],
    device: &B::Device,
) -> Vec<Part<'a, B>> {
    let mut parts = Vec::new();
    let mut first = 0; // of the sequence, among all rows
    for sequence in sequences {
        let n = sequence.positions.len();
        let start = tile.start.max(first);
        let end = tile.end.min(first + n);
        if start < end {
            let rows = start - first..end - first;
            let indices: Vec<usize> = rows.clone().collect();
            parts.push(Part {
                positions: &sequence.positions[rows],
                rope: sequence.rope.select(&indices, device),
                cache: sequence.cache,
            });
        }
        first += n;
    }
    parts
}

/// Concatenates lists of rows. A single list is returned without a copy.
fn joined<B: FusionBackend>(mut lists: Vec<Tensor<B, 2>>) -> Tensor<B, 2> {
    match lists.len() {
        1 => lists.remove(0),
        _ => Tensor::cat(lists, 0),
    }
}

/// Splits into lists of `n_rows` rows each. A single list is returned without a copy.
fn split<B: FusionBackend, const D: usize>(
    all: Tensor<B, D>,
    n_rows: &[usize],
) -> Vec<Tensor<B, D>> {
    if n_rows.len() == 1 {
        return vec![all];
    }
    let mut start = 0;
    let lists = n_rows.iter().map(|&n| {
        start += n;
        all.clone().narrow(0, start - n, n)
    });
    lists.collect()
}
