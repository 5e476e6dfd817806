//! Attention weights as selection policies read them. Attention itself is one operation of the
//! backend ([`crate::kernel::FusionBackend::attend_rows`]), which keeps no weights.
//!
//! A row at position `p` sees keys `0..=p`, and only the last `window` of them if the layer has a
//! sliding window: exactly what full prefill allows it to see (design invariant 4).
//! [`LayerCache::visible`] says which rows those are.

use std::ops::Range;

use burn::tensor::{DType, Tensor};

use crate::kernel::{FusionBackend, masked_softmax, scaled_scores};
use crate::kv::LayerCache;

/// Rows of attention computed at once: bounds the score matrix to `heads x ROW_TILE x keys`.
const ROW_TILE: usize = 256;

/// The attention each row pays to the cache rows before `end`, averaged over heads, in f32.
///
/// # Shapes
/// - q: `[m, heads, head_dim]`, rotated
/// - visible: per row the cache rows it sees, starts and ends ascending, no range beyond `end`
/// - result: `[m, end]`
pub(super) fn attention_weights<B: FusionBackend>(
    q: Tensor<B, 3>,
    visible: &[Range<usize>],
    end: usize,
    cache: &LayerCache<B>,
) -> Tensor<B, 2> {
    let (k, _) = cache.tensors();
    let k = k.narrow(0, 0, end);
    over_tiles(q, visible, |tile, visible| {
        let [m, heads, _] = tile.dims();
        let weights = masked_softmax(scaled_scores(tile, k.clone()), visible); // [kv_heads, group * m, end]
        let weights = weights.cast(DType::F32).reshape([heads, m, end]);
        weights.mean_dim(0).reshape([m, end])
    })
}

/// Applies `work` to tiles of at most [`ROW_TILE`] rows and concatenates the results.
fn over_tiles<B: FusionBackend>(
    q: Tensor<B, 3>,
    visible: &[Range<usize>],
    work: impl Fn(Tensor<B, 3>, &[Range<usize>]) -> Tensor<B, 2>,
) -> Tensor<B, 2> {
    let [m, heads, head_dim] = q.dims();
    let tiles = (0..m).step_by(ROW_TILE).map(|start| {
        let end = (start + ROW_TILE).min(m);
        let tile = q.clone().slice([start..end, 0..heads, 0..head_dim]);
        work(tile, &visible[start..end])
    });
    let mut tiles: Vec<_> = tiles.collect();
    if tiles.len() == 1 {
        tiles.remove(0)
    } else {
        Tensor::cat(tiles, 0)
    }
}
