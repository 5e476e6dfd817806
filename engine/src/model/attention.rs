//! Attention of rows at arbitrary positions over the KV cache, under the exact row-wise mask.
//!
//! Plain tensor code, tiled over rows so that scores stay bounded. A row at position `p` sees keys
//! `0..=p`, and of them only the last `window` where the layer has a sliding window: exactly what
//! full prefill allows it (design invariant 4).

use std::ops::Range;

use burn::tensor::Tensor;

use crate::kernel::{FusionBackend, masked_softmax};

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
    if tiles.len() == 1 {
        tiles.remove(0)
    } else {
        Tensor::cat(tiles, 0)
    }
}

fn attend_tile<B: FusionBackend>(
    q: Tensor<B, 3>,
    positions: &[usize],
    keys: &Keys<B>,
) -> Tensor<B, 2> {
    let [m, heads, head_dim] = q.dims();
    let kv_heads = keys.k.dims()[1];
    let group = heads / kv_heads;
    // Keys no row of this tile can see are left out.
    let first = match (keys.window, positions.first()) {
        (Some(window), Some(&p)) => (p + 1).saturating_sub(window),
        _ => 0,
    };
    let last = positions.last().map_or(0, |&p| p + 1);

    let k = keys
        .k
        .clone()
        .slice([first..last, 0..kv_heads, 0..head_dim]);
    let v = keys
        .v
        .clone()
        .slice([first..last, 0..kv_heads, 0..head_dim]);
    let k = k.permute([1, 2, 0]); // [kv_heads, head_dim, n], n = last - first
    let v = v.permute([1, 0, 2]); // [kv_heads, n, head_dim]

    let scale = 1.0 / (head_dim as f64).sqrt();
    let q = q
        .mul_scalar(scale)
        .reshape([m, kv_heads, group, head_dim])
        .permute([1, 2, 0, 3]) // [kv_heads, group, m, head_dim]
        .reshape([kv_heads, group * m, head_dim]);
    let scores = q.matmul(k); // [kv_heads, group * m, n]
    let weights = masked_softmax(scores, &visible_keys(positions, first, keys.window));
    weights
        .matmul(v) // [kv_heads, group * m, head_dim]
        .reshape([kv_heads, group, m, head_dim])
        .permute([2, 0, 1, 3]) // [m, kv_heads, group, head_dim]
        .reshape([m, heads * head_dim])
}

/// The keys each row sees, counted from key `first`.
fn visible_keys(positions: &[usize], first: usize, window: Option<usize>) -> Vec<Range<usize>> {
    let of_row = |&position: &usize| {
        let from = window
            .map_or(0, |window| (position + 1).saturating_sub(window))
            .max(first);
        from - first..position + 1 - first
    };
    positions.iter().map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use super::visible_keys;

    #[test]
    fn a_row_sees_itself_and_what_is_before_it() {
        assert_eq!(visible_keys(&[0, 5, 6], 0, None), [0..1, 0..6, 0..7]);
    }

    #[test]
    fn a_window_counts_the_row_itself() {
        assert_eq!(visible_keys(&[5, 9], 3, Some(3)), [0..3, 4..7]);
    }
}
