//! The rows of several sequences as one list of rows, and that list in tiles of bounded size.

use std::ops::Range;

use burn::tensor::Tensor;

use super::context::FusionContext;
use crate::kernel::FusionBackend;
use crate::kv::LayerCache;
use crate::model::{DecoderLayer, RopeRows, SequenceRows};

/// Attention and MLP in tiles of at most `max_prefill_tokens` rows; as they are where one holds all.
pub(super) fn forward_tiled<B: FusionBackend>(
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

/// What is in a tile of the rows of `sequences`, which follow one another.
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

/// One list of rows after the other. One alone stays as it is: no copy.
pub(super) fn joined<B: FusionBackend>(mut lists: Vec<Tensor<B, 2>>) -> Tensor<B, 2> {
    match lists.len() {
        1 => lists.remove(0),
        _ => Tensor::cat(lists, 0),
    }
}

/// Lists of `n_rows` rows each. One alone stays as it is: no copy.
pub(super) fn split<B: FusionBackend, const D: usize>(
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
