//! Stored KV on its way into the cache: layer by layer, each placed once, whoever asks first.
//!
//! A probe may run ahead of the fused prefill; what it placed and has to be compared later is kept
//! until the prefill takes it.

use std::time::Duration;

use burn::tensor::{Int, Tensor};

use super::loader::{BadBlock, LoadReport, LoadedBlock, Loader, Sources};
use super::prefill::FusionContext;
use crate::kernel::FusionBackend;
use crate::kv::{KvCache, block_words, tensor_from_block};
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
    /// Layers below this have been placed.
    n_placed: usize,
    /// Per layer placed and not yet taken.
    layers: Vec<Option<Placed<B>>>,
    /// The rows of the layer placed last.
    rows: Option<Rows<B>>,
}

impl<B: FusionBackend> Stored<B> {
    /// Takes over what is being read: from here on it is this prompt's turn.
    pub(super) fn new(loader: Loader, n_layers: usize) -> Self {
        loader.hasten();
        Self {
            loader,
            layers: (0..n_layers).map(|_| None).collect(),
            n_placed: 0,
            rows: None,
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

    /// Drops what a placed layer held: it stands in the cache, and nobody will compare it.
    pub(super) fn forget(&mut self, layer_idx: usize) {
        self.layers[layer_idx] = None;
    }

    /// Tokens of the layer placed last: the last one holds all that were loaded.
    pub(super) fn n_tokens(&self) -> usize {
        self.rows.as_ref().map_or(0, |rows| rows.positions.len())
    }

    /// Time spent waiting for reads so far.
    pub(super) fn waited(&self) -> Duration {
        self.loader.waited()
    }

    /// Ends reading; gives the sources back with what loading came to.
    pub(super) fn finish(self) -> (Sources, LoadReport) {
        self.loader.finish()
    }

    /// Writes the stored KV of a layer into the cache, if the plan reads any at this layer.
    fn place(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        cache: &mut KvCache<B>,
        layer_idx: usize,
    ) -> Result<Option<Placed<B>>, BadBlock> {
        if !self.loader.reads(layer_idx) {
            return Ok(None);
        }
        let blocks = self.loader.next()?;
        let rows: Vec<usize> = blocks.iter().flat_map(|block| block.rows.clone()).collect();
        let (k, v) = (
            joined(&blocks, LoadedBlock::k),
            joined(&blocks, LoadedBlock::v),
        );
        let device = ctx.decoder.device();
        let shape = [rows.len(), ctx.identity.kv_heads, ctx.identity.head_dim];
        let k = tensor_from_block::<B>(k, shape, ctx.identity, device);
        let v = tensor_from_block::<B>(v, shape, ctx.identity, device);
        let known = self.rows.take().filter(|known| known.positions == rows);
        let placed = known.unwrap_or_else(|| Rows::new(ctx, rows.clone()));
        let rotated = placed.rope.rotate(k.clone());
        cache
            .layer_mut(layer_idx)
            .write(&placed.index, rotated, v.clone());
        self.rows = Some(placed);
        Ok(Some(Placed { rows, k, v }))
    }
}

/// One side of the blocks, one after the other.
fn joined(blocks: &[LoadedBlock], side: fn(&LoadedBlock) -> &[u8]) -> Vec<u32> {
    let bytes = blocks.iter().map(|block| side(block).len()).sum();
    let mut words = vec![0u32; block_words(bytes)];
    let mut rest: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
    for block in blocks.iter().map(side) {
        let (head, tail) = rest.split_at_mut(block.len());
        head.copy_from_slice(block);
        rest = tail;
    }
    words
}
