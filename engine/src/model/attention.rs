//! Attention of rows at arbitrary positions over the KV cache, under the exact row-wise mask.
//!
//! Plain tensor code, tiled over rows so that scores stay bounded. A row at position `p` sees keys
//! `0..=p`, and of them only the last `window` where the layer has a sliding window: exactly what
//! full prefill allows it (design invariant 4).

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Tensor, TensorData};

use crate::kernel::FusionBackend;

/// The keys and values one layer attends to.
pub(super) struct Keys<B: FusionBackend> {
    pub k: Tensor<B, 3>, // [capacity, kv_heads, head_dim], rotated
    pub v: Tensor<B, 3>, // [capacity, kv_heads, head_dim]
    pub window: Option<usize>,
}

/// Rows of attention computed at once: bounds the score matrix to `heads x ROW_TILE x keys`.
const ROW_TILE: usize = 256;

/// # Shapes
/// - q: `[m, heads, head_dim]`, rotated
/// - positions: `m` prompt positions, ascending
/// - result: `[m, heads * head_dim]`
pub(super) fn attend<B: FusionBackend>(
    q: Tensor<B, 3>,
    positions: &[usize],
    keys: &Keys<B>,
) -> Tensor<B, 2> {
    let [m, heads, head_dim] = q.dims();
    let tiles = (0..m).step_by(ROW_TILE).map(|start| {
        let end = (start + ROW_TILE).min(m);
        let tile = q.clone().slice([start..end, 0..heads, 0..head_dim]);
        attend_tile(tile, &positions[start..end], keys)
    });
    let mut tiles: Vec<_> = tiles.collect();
    if tiles.len() == 1 { tiles.remove(0) } else { Tensor::cat(tiles, 0) }
}

fn attend_tile<B: FusionBackend>(
    q: Tensor<B, 3>,
    positions: &[usize],
    keys: &Keys<B>,
) -> Tensor<B, 2> {
    let [m, heads, head_dim] = q.dims();
    let kv_heads = keys.k.dims()[1];
    let group = heads / kv_heads;
    let dtype = q.dtype();
    // Keys no row of this tile can see are left out.
    let first = match (keys.window, positions.first()) {
        (Some(window), Some(&p)) => (p + 1).saturating_sub(window),
        _ => 0,
    };
    let last = positions.last().map_or(0, |&p| p + 1);
    let n = last - first;

    let k = keys.k.clone().slice([first..last, 0..kv_heads, 0..head_dim]);
    let v = keys.v.clone().slice([first..last, 0..kv_heads, 0..head_dim]);
    let k = k.permute([1, 2, 0]); // [kv_heads, head_dim, n]
    let v = v.permute([1, 0, 2]); // [kv_heads, n, head_dim]

    let scale = 1.0 / (head_dim as f64).sqrt();
    let q = q
        .mul_scalar(scale)
        .reshape([m, kv_heads, group, head_dim])
        .permute([1, 2, 0, 3]) // [kv_heads, group, m, head_dim]
        .reshape([kv_heads, group * m, head_dim]);
    let scores = q.matmul(k).cast(DType::F32).reshape([kv_heads, group, m, n]);
    let scores = match row_mask(positions, first, n, keys.window) {
        Some(bias) => scores + Tensor::from_data(bias, (&keys.k.device(), DType::F32)),
        None => scores,
    };
    let weights = softmax(scores, 3).cast(dtype).reshape([kv_heads, group * m, n]);
    weights
        .matmul(v) // [kv_heads, group * m, head_dim]
        .reshape([kv_heads, group, m, head_dim])
        .permute([2, 0, 1, 3]) // [m, kv_heads, group, head_dim]
        .reshape([m, heads * head_dim])
}

/// The additive mask `[1, 1, m, n]` over keys `first..first + n`: 0 where a row sees the key,
/// `-inf` elsewhere. `None` where every row sees every key, as in decoding.
fn row_mask(
    positions: &[usize],
    first: usize,
    n: usize,
    window: Option<usize>,
) -> Option<TensorData> {
    if positions.len() == 1 {
        return None;
    }
    let mut bias = vec![f32::NEG_INFINITY; positions.len() * n];
    for (row, &position) in bias.chunks_exact_mut(n).zip(positions) {
        let from = window.map_or(0, |w| (position + 1).saturating_sub(w)).max(first) - first;
        row[from..=position - first].fill(0.0);
    }
    Some(TensorData::new(bias, [1, 1, positions.len(), n]))
}
