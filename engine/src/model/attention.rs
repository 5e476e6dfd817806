//! Attention weights as selection policies read them. What attention computes is an operation of
//! the backend ([`crate::kernel::FusionBackend::attend_rows`]); its weights exist nowhere else.
//!
//! A row at position `p` sees keys `0..=p`, and of them only the last `window` where the layer has a
//! sliding window: exactly what full prefill allows it (design invariant 4).
//! [`LayerCache::visible`] says which rows those are.

use std::ops::Range;

use burn::tensor::{DType, Tensor};

use crate::kernel::{FusionBackend, masked_softmax};
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
    over_tiles(q, visible, |tile, visible| {
        let [m, heads, _] = tile.dims();
        let weights = weights(tile, visible, &k, 0..end); // [kv_heads, group * m, end]
        let weights = weights.cast(DType::F32).reshape([heads, m, end]);
        weights.mean_dim(0).reshape([m, end])
    })
}

/// Applies `work` to tiles of at most [`ROW_TILE`] rows and puts the results behind one another.
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

/// Attention weights over the cache rows of `span`: `[kv_heads, group * m, n]`, `n = span.len()`.
fn weights<B: FusionBackend>(
    q: Tensor<B, 3>,
    visible: &[Range<usize>],
    k: &Tensor<B, 3>,
    span: Range<usize>,
) -> Tensor<B, 3> {
    let [m, heads, head_dim] = q.dims();
    let kv_heads = k.dims()[1];
    let group = heads / kv_heads;
    let k = k
        .clone()
        .slice([span.clone(), 0..kv_heads, 0..head_dim])
        .permute([1, 2, 0]); // [kv_heads, head_dim, n]
    let scale = 1.0 / (head_dim as f64).sqrt();
    let q = q
        .mul_scalar(scale)
        .reshape([m, kv_heads, group, head_dim])
        .permute([1, 2, 0, 3]) // [kv_heads, group, m, head_dim]
        .reshape([kv_heads, group * m, head_dim]);
    let within = |range: &Range<usize>| range.start - span.start..range.end - span.start;
    let visible: Vec<Range<usize>> = visible.iter().map(within).collect();
    masked_softmax(q.matmul(k), &visible)
}
