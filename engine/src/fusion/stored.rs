//! Stored KV on its way into the cache: layer by layer, each placed once, whoever asks first.
//!
//! A probe may run ahead of the fused prefill; what it placed and has to be compared later is kept
//! until the prefill takes it.

use std::ops::Range;
use std::time::Duration;

use burn::tensor::{Int, Tensor};

use super::loader::{BadBlock, LayerReads, LoadedLayer, Loader, Sources};
use super::prefill::FusionContext;
use crate::kernel::{FusionBackend, Rotation};
use crate::kv::{KvCache, KvIdentity, StoredRows};
use crate::model::{RopeRows, row_tensor};

/// Rows of the prompt with what is needed to place them.
pub(crate) struct Rows<B: FusionBackend> {
    pub positions: Vec<usize>, // ascending
    pub index: Tensor<B, 1, Int>,
    pub rope: RopeRows<B>,
}

impl<B: FusionBackend> Rows<B> {
    pub(super) fn new(ctx: &mut FusionContext<'_, B>, positions: Vec<usize>) -> Self {
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
pub(super) struct Placed<B: FusionBackend> {
    pub rows: Vec<usize>,
    pub k: Tensor<B, 3>, // [rows, kv_heads, head_dim]
    pub v: Tensor<B, 3>,
}

/// The stored KV of one prompt.
pub(super) struct Stored<B: FusionBackend> {
    loader: Loader,
    reads: Vec<LayerReads>,
    /// Layers below this have been placed.
    n_placed: usize,
    /// Per layer, whether what was placed is wanted again: to compare with, or to correct.
    kept: Vec<bool>,
    /// Per layer kept and not yet taken.
    layers: Vec<Option<Placed<B>>>,
    /// The rotations of the chunks placed last.
    rotations: Vec<(Range<usize>, Rotation<B>)>,
    n_tokens: usize,
    pub bytes_loaded: u64,
}

impl<B: FusionBackend> Stored<B> {
    /// Begins to read ahead.
    pub(super) fn start(
        reads: Vec<LayerReads>,
        sources: Sources,
        identity: &KvIdentity,
        kept: Vec<bool>,
    ) -> Self {
        Self {
            loader: Loader::start(reads.clone(), sources, identity.clone()),
            layers: kept.iter().map(|_| None).collect(),
            kept,
            reads,
            n_placed: 0,
            rotations: Vec::new(),
            n_tokens: 0,
            bytes_loaded: 0,
        }
    }

    /// Places the layer, if it is not yet, and shows what it held.
    pub(super) fn look(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        cache: &mut KvCache<B>,
        layer_idx: usize,
    ) -> Result<Option<&Placed<B>>, BadBlock> {
        while self.n_placed <= layer_idx {
            self.layers[self.n_placed] = self.place(ctx, cache, self.n_placed)?;
            self.n_placed += 1;
        }
        Ok(self.layers[layer_idx].as_ref())
    }

    /// As [`Stored::look`]; gives the layer away.
    pub(super) fn take(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        cache: &mut KvCache<B>,
        layer_idx: usize,
    ) -> Result<Option<Placed<B>>, BadBlock> {
        self.look(ctx, cache, layer_idx)?;
        Ok(self.layers[layer_idx].take())
    }

    /// Keeps what is placed at every layer.
    pub(super) fn keep_all(&mut self) {
        self.kept.fill(true);
    }

    /// Tokens of the layer placed last: the last one holds all that were loaded.
    pub(super) fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Time spent waiting for reads so far.
    pub(super) fn waited(&self) -> Duration {
        self.loader.waited()
    }

    /// Ends reading; gives the sources back with the time spent reading and waiting.
    pub(super) fn finish(self) -> (Sources, Duration, Duration) {
        self.loader.finish()
    }

    /// Writes the stored KV of a layer into the cache, if the plan reads any at this layer.
    fn place(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        cache: &mut KvCache<B>,
        layer_idx: usize,
    ) -> Result<Option<Placed<B>>, BadBlock> {
        if !self.reads.iter().any(|read| read.layer == layer_idx) {
            return Ok(None);
        }
        let loaded = self.loader.next()?;
        self.bytes_loaded += loaded.bytes;
        self.n_tokens = loaded.rows.len();
        let chunks = self.reads.iter().find(|read| read.layer == layer_idx);
        let chunks: Vec<Range<usize>> = chunks
            .iter()
            .flat_map(|read| read.chunks.iter().map(|(_, rows)| rows.clone()))
            .collect();
        self.rotate_for(ctx, &chunks);
        let mut first = 0;
        for (rows, rotation) in &self.rotations {
            let block = first..first + ctx.identity.block_bytes(rows.len());
            first = block.end;
            let shape = [rows.len(), ctx.identity.kv_heads, ctx.identity.head_dim];
            let [k, v] = [&loaded.k, &loaded.v].map(|words| {
                let bytes = &bytemuck::cast_slice::<u32, u8>(words)[block.clone()];
                StoredRows::new(bytes, ctx.identity.kv_dtype, shape)
            });
            let layer = cache.layer_mut(layer_idx);
            layer.place(rows.start, &k, &v, rotation);
        }
        Ok(self.kept[layer_idx].then(|| placed(ctx, loaded)))
    }

    /// Rotations are the same at every layer that places the same chunks.
    fn rotate_for(&mut self, ctx: &mut FusionContext<'_, B>, chunks: &[Range<usize>]) {
        if self.rotations.iter().map(|(rows, _)| rows).eq(chunks) {
            return;
        }
        let of = |rows: &Range<usize>| {
            let positions: Vec<usize> = rows.clone().collect();
            (rows.clone(), ctx.rope.rows(&positions).rotation())
        };
        self.rotations = chunks.iter().map(of).collect();
    }
}

/// What was loaded of a layer, as tensors in the compute dtype.
fn placed<B: FusionBackend>(ctx: &FusionContext<'_, B>, loaded: LoadedLayer) -> Placed<B> {
    let LoadedLayer { rows, k, v, .. } = loaded;
    let shape = [rows.len(), ctx.identity.kv_heads, ctx.identity.head_dim];
    let tensor = |words: &[u32]| {
        let stored = StoredRows::new(bytemuck::cast_slice(words), ctx.identity.kv_dtype, shape);
        let tensor: Tensor<B, 3> = stored.to_tensor(ctx.decoder.device());
        tensor.cast(ctx.decoder.dtype())
    };
    Placed {
        k: tensor(&k),
        v: tensor(&v),
        rows,
    }
}
