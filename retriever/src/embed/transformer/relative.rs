//! MPNet's bias by relative position: one number per head for each distance, the far ones in common
//! buckets (as in T5, arXiv 1910.10683).

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::config::EncoderConfig;
use super::load::Loader;
use super::names::RELATIVE_POSITIONS;
use crate::embed::open_error::OpenEmbedderError;

/// From this distance on all keys share the last bucket; fixed in transformers.
const MAX_DISTANCE: f32 = 128.0;

/// The table of biases.
pub(super) struct RelativeBias<B: Backend> {
    table: Tensor<B, 2>, // [buckets, heads]
}

impl<B: Backend> RelativeBias<B> {
    pub(super) fn load(
        config: &EncoderConfig,
        loader: &Loader<'_, B>,
    ) -> Result<Self, OpenEmbedderError> {
        let (buckets, heads) = (
            config.relative_attention_num_buckets,
            config.num_attention_heads,
        );
        Ok(Self {
            table: loader.table(RELATIVE_POSITIONS, buckets, heads)?,
        })
    }

    /// What is added to the scores of a text: `[1, heads, n_tokens, n_tokens]`, query by key.
    pub(super) fn of(&self, n_tokens: usize) -> Tensor<B, 4> {
        let [buckets, heads] = self.table.dims();
        let pairs = (0..n_tokens).flat_map(|query| (0..n_tokens).map(move |key| (query, key)));
        let rows: Vec<i64> = pairs
            .map(|(query, key)| bucket(query, key, buckets) as i64)
            .collect();
        let rows = TensorData::new(rows, [n_tokens * n_tokens]);
        let rows = Tensor::from_data(rows, &self.table.device());
        let biases = self.table.clone().select(0, rows); // [n_tokens x n_tokens, heads]
        let biases = biases.reshape([1, n_tokens, n_tokens, heads]);
        biases.permute([0, 3, 1, 2])
    }
}

/// Half of the buckets are for keys after the query. In each half, half are for one distance each,
/// the others grow logarithmically.
fn bucket(query: usize, key: usize, buckets: usize) -> usize {
    let half = buckets / 2;
    let side = if key > query { half } else { 0 };
    let distance = query.abs_diff(key);
    let exact = half / 2;
    if distance < exact {
        return side + distance;
    }
    let grown = (distance as f32 / exact as f32).ln() / (MAX_DISTANCE / exact as f32).ln();
    let bucket = exact + (grown * (half - exact) as f32) as usize;
    side + bucket.min(half - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `MPNetEncoder.relative_position_bucket` of transformers 5.23, 32 buckets.
    #[test]
    fn buckets_are_those_of_transformers() {
        let before = [
            (0, 0),
            (1, 1),
            (7, 7),
            (8, 8),
            (12, 9),
            (20, 10),
            (64, 14),
            (127, 15),
            (500, 15),
        ];
        for (distance, expected) in before {
            assert_eq!(bucket(600, 600 - distance, 32), expected, "{distance}");
            let after = if distance == 0 { 0 } else { 16 + expected };
            assert_eq!(bucket(600, 600 + distance, 32), after, "{distance}");
        }
    }
}
