//! A chunk's anchor tokens, found while its KV is computed: those that its own later tokens attend to most
//! (after QCFuse, arXiv 2606.05875, which keeps a compact stand-in per chunk).

use super::executor::LayerView;
use super::plan::TOKENS_PER_ANCHOR;
use crate::kernel::FusionBackend;
use crate::kv::LayerCache;
use crate::model::{SequenceRows, row_tensor};

/// Adds up, layer by layer, the attention that a chunk's tokens receive.
pub(crate) struct AnchorFinder {
    /// Position of the chunk's first token.
    start: usize,
    received: Vec<f64>,
}

impl AnchorFinder {
    /// For a chunk of `n_tokens` after `start` conditioning tokens.
    pub(crate) fn new(start: usize, n_tokens: usize) -> Self {
        Self {
            start,
            received: vec![0.0; n_tokens],
        }
    }

    /// Adds one layer of the chunk's own prefill.
    pub(crate) fn add<B: FusionBackend>(&mut self, view: &LayerView<'_, B>, cache: &LayerCache<B>) {
        let (positions, n) = (&view.rows.positions, self.received.len());
        let first = positions.partition_point(|&position| position < self.start);
        let device = view.normed.device();
        let rows: Vec<usize> = (first..positions.len()).collect();
        let end = self.start + n;
        let asking = SequenceRows {
            positions: &positions[first..],
            rope: &view.rows.rope.select(&rows, &device),
            cache,
        };
        let normed = view.normed.clone().select(0, row_tensor(&rows, &device));
        let weights = view.layer.attention_weights(normed, asking, end); // [n, end]
        let weights = weights.slice([0..n, self.start..end]); // [n, n]
        let weights: Vec<f32> = weights.into_data().iter::<f32>().collect();
        add_received(&mut self.received, weights.chunks_exact(n));
    }

    /// Offsets of the `ceil(n / 8)` best tokens, ascending; the lower one wins a tie.
    pub(crate) fn finish(self) -> Vec<u32> {
        let mut order: Vec<usize> = (0..self.received.len()).collect();
        order.sort_by(|&a, &b| self.received[b].total_cmp(&self.received[a]));
        order.truncate(self.received.len().div_ceil(TOKENS_PER_ANCHOR));
        order.sort_unstable();
        order.into_iter().map(|offset| offset as u32).collect()
    }
}

/// Adds to each token the mean attention that the tokens after it pay to it; one layer's rows in order. It is
/// the mean because early tokens have more tokens after them. A token's attention to itself is left out, or the
/// last tokens would win by attending to themselves.
fn add_received<'a>(received: &mut [f64], rows: impl Iterator<Item = &'a [f32]>) {
    let n = received.len();
    for (row, weights) in rows.enumerate() {
        for (token, &weight) in weights.iter().enumerate().take(row) {
            received[token] += f64::from(weight) / (n - 1 - token) as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_ranked_by_the_mean_attention_of_those_after_them() {
        let mut received = vec![0.0; 3];
        let rows: [&[f32]; 3] = [&[1.0, 0.0, 0.0], &[0.5, 0.5, 0.0], &[0.2, 0.6, 0.2]];
        add_received(&mut received, rows.into_iter());
        // Token 0: (0.5 + 0.2) / 2; token 1: 0.6 / 1; no token comes after token 2.
        let rounded: Vec<f64> = received.iter().map(|x| (x * 1e4).round() / 1e4).collect();
        assert_eq!(rounded, [0.35, 0.6, 0.0]);
    }

    #[test]
    fn one_token_in_eight_is_an_anchor() {
        let finder = AnchorFinder {
            start: 0,
            received: vec![0.1, 0.9, 0.9, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0],
        };
        assert_eq!(finder.finish(), [1, 2]);
        assert_eq!(AnchorFinder::new(5, 1).finish(), [0]);
    }
}
