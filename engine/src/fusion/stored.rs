//! Places stored KV in the cache, layer by layer. Each layer is placed once, by the first pass that needs it.
//!
//! A probe may run ahead of the fused prefill; what it placed and is compared later is kept
//! until the prefill takes it.

use std::ops::Range;
use std::time::Duration;

use burn::tensor::Tensor;

use super::block::{LoadedBlock, Sources};
use super::context::FusionContext;
use super::interrupt::{Interrupt, StopCheck};
use super::loader::{LoadReport, Loader};
use crate::kernel::{FusionBackend, load_block};
use crate::kv::{KvCache, StoredBlock};
use crate::model::RopeRows;

/// The stored KV of one layer on the device, K before RoPE.
pub(super) struct Placed<B: FusionBackend> {
    pub rows: Vec<usize>,
    pub k: Tensor<B, 3>, // [rows, kv_heads, head_dim]
    pub v: Tensor<B, 3>,
}

/// The stored KV of one prompt.
pub(super) struct Stored<B: FusionBackend> {
    loader: Loader,
    /// Layers below this have been placed.
    n_placed: usize,
    /// Per layer, whether what was placed is needed again, for comparison or correction.
    kept: Vec<bool>,
    /// Per layer, what is kept and not yet taken.
    layers: Vec<Option<Placed<B>>>,
    /// The rotations of the chunks placed last.
    rotations: Vec<(Range<usize>, RopeRows<B>)>,
    n_tokens: usize,
}

impl<B: FusionBackend> Stored<B> {
    /// Takes over what is being read.
    pub(super) fn new(loader: Loader, kept: Vec<bool>) -> Self {
        Self {
            loader,
            layers: kept.iter().map(|_| None).collect(),
            kept,
            n_placed: 0,
            rotations: Vec::new(),
            n_tokens: 0,
        }
    }

    /// Places this layer and those below it that are not placed yet.
    pub(super) fn place_up_to(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        cache: &mut KvCache<B>,
        layer_idx: usize,
        stop: StopCheck<'_>,
    ) -> Result<(), Interrupt> {
        while self.n_placed <= layer_idx {
            self.layers[self.n_placed] = self.place(ctx, cache, self.n_placed, stop)?;
            self.n_placed += 1;
        }
        Ok(())
    }

    /// What was placed at a layer, if it is kept.
    pub(super) fn placed(&self, layer_idx: usize) -> Option<&Placed<B>> {
        self.layers[layer_idx].as_ref()
    }

    /// As [`Stored::placed`], but hands over ownership.
    pub(super) fn take_placed(&mut self, layer_idx: usize) -> Option<Placed<B>> {
        self.layers[layer_idx].take()
    }

    /// Tokens of the layer placed last; the last layer holds all loaded tokens.
    pub(super) fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Time spent waiting for reads so far.
    pub(super) fn waited(&self) -> Duration {
        self.loader.waited()
    }

    /// Ends reading; gives the sources back, with times and bytes.
    pub(super) fn finish(self) -> (Sources, LoadReport) {
        self.loader.finish()
    }

    /// Writes the stored KV of a layer into the cache, if the plan reads any at this layer.
    fn place(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        cache: &mut KvCache<B>,
        layer_idx: usize,
        stop: StopCheck<'_>,
    ) -> Result<Option<Placed<B>>, Interrupt> {
        if !self.loader.reads(layer_idx) {
            return Ok(None);
        }
        let blocks = self.loader.next(stop)?;
        self.n_tokens = blocks.iter().map(|block| block.rows.len()).sum();
        self.rotate_for(ctx, &blocks);
        let layer = cache.layer_mut(layer_idx);
        for (block, (rows, rope)) in blocks.iter().zip(&self.rotations) {
            let bytes = block.share();
            let stored = stored_block(ctx, &bytes, block.rows.len());
            let rotation = ctx.decoder.layer(layer_idx).rotation(rope);
            layer.place(rows.start, &stored, &rotation);
        }
        Ok(self.kept[layer_idx].then(|| placed(ctx, &blocks)))
    }

    /// Rotations are the same at every layer that places the same chunks.
    fn rotate_for(&mut self, ctx: &mut FusionContext<'_, B>, blocks: &[LoadedBlock]) {
        let chunks = blocks.iter().map(|block| &block.rows);
        let known = self.rotations.iter().map(|(rows, _)| rows);
        if known.eq(chunks.clone()) {
            return;
        }
        let of = |rows: &Range<usize>| {
            let positions: Vec<usize> = rows.clone().collect();
            (rows.clone(), ctx.rope.rows(&positions))
        };
        self.rotations = chunks.map(of).collect();
    }
}

/// A block of `n_tokens` as the kernels read it.
fn stored_block<'a, B: FusionBackend>(
    ctx: &FusionContext<'_, B>,
    bytes: &'a bytes::Bytes,
    n_tokens: usize,
) -> StoredBlock<'a> {
    let identity = ctx.identity;
    let shape = [n_tokens, identity.kv_heads, identity.head_dim];
    StoredBlock::in_buffer(bytes, identity.kv_dtype, shape)
}

/// What was loaded for a layer, as tensors in the compute dtype.
fn placed<B: FusionBackend>(ctx: &FusionContext<'_, B>, blocks: &[LoadedBlock]) -> Placed<B> {
    let device = ctx.decoder.device();
    let bytes: Vec<bytes::Bytes> = blocks.iter().map(LoadedBlock::share).collect();
    let stored = blocks.iter().zip(&bytes);
    let stored = stored.map(|(block, bytes)| stored_block(ctx, bytes, block.rows.len()));
    let (k, v) = stored
        .map(|block| {
            let [k, v] = load_block(&block, device);
            (k, v)
        })
        .unzip();
    let whole = |side: Vec<Tensor<B, 3>>| Tensor::cat(side, 0).cast(ctx.decoder.dtype());
    Placed {
        rows: blocks.iter().flat_map(|block| block.rows.clone()).collect(),
        k: whole(k),
        v: whole(v),
    }
}
