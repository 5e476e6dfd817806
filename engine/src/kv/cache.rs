//! The device KV cache of one sequence, preallocated and written in place.
//!
//! Row `p` holds the token at prompt position `p`. K is rotated to that position. Which rows are
//! valid at which layer is decided by `fusion`; attention never looks past a row's position.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{DType, Int, Tensor};

use super::stored_rows::StoredBlock;
use crate::config::ModelConfig;
use crate::kernel::{FusionBackend, Rotation, overwrite_rows, place_block, write_rows};

/// K and V of one layer.
pub struct LayerCache<B: FusionBackend> {
    // `None` only inside `rewrite`, so that the backend holds the only reference and writes in place.
    k: Option<Tensor<B, 3>>, // [capacity, kv_heads, head_dim]
    v: Option<Tensor<B, 3>>,
    /// The position each row holds, ascending; if absent, row `p` holds position `p`.
    held: Option<Arc<[usize]>>,
}

impl<B: FusionBackend> LayerCache<B> {
    fn new(shape: [usize; 3], options: (&B::Device, DType)) -> Self {
        Self {
            k: Some(Tensor::zeros(shape, options)),
            v: Some(Tensor::zeros(shape, options)),
            held: None,
        }
    }

    /// A copy that holds only these positions; `rows` is the same list as a tensor.
    pub(crate) fn packed(&self, positions: &Arc<[usize]>, rows: &Tensor<B, 1, Int>) -> Self {
        let (k, v) = self.tensors();
        Self {
            k: Some(k.select(0, rows.clone())),
            v: Some(v.select(0, rows.clone())),
            held: Some(positions.clone()),
        }
    }

    /// The rows a token at `position` may see: at or before it, and inside the sliding window.
    pub(crate) fn visible(&self, position: usize, window: Option<usize>) -> Range<usize> {
        let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
        let row_of = |position: usize| match &self.held {
            None => position,
            Some(held) => held.partition_point(|&other| other < position),
        };
        row_of(first)..row_of(position + 1)
    }

    /// The whole buffers. Drop the result before the next write, or that write copies.
    pub fn tensors(&self) -> (Tensor<B, 3>, Tensor<B, 3>) {
        (self.buffer(&self.k), self.buffer(&self.v))
    }

    /// Writes rows at the given positions.
    ///
    /// # Shapes
    /// - rows: `[m]`, distinct
    /// - k (rotated), v: `[m, kv_heads, head_dim]`
    pub fn write(&mut self, rows: &Tensor<B, 1, Int>, k: Tensor<B, 3>, v: Tensor<B, 3>) {
        self.rewrite(|[k_buffer, v_buffer]| {
            [
                overwrite_rows(k_buffer, rows.clone(), k),
                overwrite_rows(v_buffer, rows.clone(), v),
            ]
        });
    }

    /// Writes rows at the given positions, K rotated to them on the way.
    ///
    /// # Shapes
    /// - rows: `[m]`, distinct
    /// - k (before RoPE), v: `[m, kv_heads, head_dim]`
    /// - rotation: of the `m` positions
    pub(crate) fn write_fresh(
        &mut self,
        rows: &Tensor<B, 1, Int>,
        k: Tensor<B, 3>,
        v: Tensor<B, 3>,
        rotation: &Rotation<B>,
    ) {
        self.rewrite(|buffers| write_rows(buffers, rows.clone(), [k, v], rotation));
    }

    /// Places a stored block from row `start` on: K, which is stored before RoPE, rotated.
    pub(crate) fn place(&mut self, start: usize, block: &StoredBlock<'_>, rotation: &Rotation<B>) {
        self.rewrite(|buffers| place_block(buffers, start, block, rotation));
    }

    /// Passes the buffers of K and V to `write`, each with no other owner, and keeps its result.
    fn rewrite(&mut self, write: impl FnOnce([Tensor<B, 3>; 2]) -> [Tensor<B, 3>; 2]) {
        if let (Some(k), Some(v)) = (self.k.take(), self.v.take()) {
            let [k, v] = write([k, v]);
            (self.k, self.v) = (Some(k), Some(v));
        }
    }

    fn buffer(&self, side: &Option<Tensor<B, 3>>) -> Tensor<B, 3> {
        side.clone()
            .expect("a buffer is absent only inside `rewrite`")
    }
}

/// K and V of all layers of one sequence.
pub struct KvCache<B: FusionBackend> {
    layers: Vec<LayerCache<B>>,
    capacity: usize,
}

impl<B: FusionBackend> KvCache<B> {
    /// Room for `capacity` tokens.
    pub fn new(config: &ModelConfig, capacity: usize, dtype: DType, device: &B::Device) -> Self {
        let shape = [capacity, config.num_key_value_heads, config.head_dim];
        let layer = |_| LayerCache::new(shape, (device, dtype));
        Self {
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            capacity,
        }
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn layer(&self, layer_idx: usize) -> &LayerCache<B> {
        &self.layers[layer_idx]
    }

    pub fn layer_mut(&mut self, layer_idx: usize) -> &mut LayerCache<B> {
        &mut self.layers[layer_idx]
    }

    /// A copy of rows of every layer: `[rows, kv_heads, head_dim]` each, K rotated.
    pub fn rows(&self, rows: Range<usize>) -> Vec<(Tensor<B, 3>, Tensor<B, 3>)> {
        let cut = |buffer: Tensor<B, 3>| {
            let [_, heads, head_dim] = buffer.dims();
            // Multiplying makes a separate tensor: a slice would keep the whole buffer alive.
            buffer
                .slice([rows.clone(), 0..heads, 0..head_dim])
                .mul_scalar(1.0)
        };
        let layers = self.layers.iter().map(LayerCache::tensors);
        layers.map(|(k, v)| (cut(k), cut(v))).collect()
    }
}

/// The buffers of a finished sequence, which the next one overwrites: fresh device memory costs a page fault for every
/// few tokens. At most one cache is kept, the largest.
pub(crate) struct SpareCache<B: FusionBackend> {
    kept: Option<KvCache<B>>,
}

impl<B: FusionBackend> SpareCache<B> {
    pub(crate) fn new() -> Self {
        Self { kept: None }
    }

    /// The kept cache if it has room for `capacity` tokens. One that is too small is dropped and its memory given back:
    /// kept beside its larger successor, it would raise the peak by its own size.
    pub(crate) fn take(&mut self, capacity: usize, device: &B::Device) -> Option<KvCache<B>> {
        let kept = self.kept.take()?;
        if kept.capacity() >= capacity {
            return Some(kept);
        }
        drop(kept);
        B::memory_cleanup(device);
        None
    }

    /// Takes buffers back after a sequence has ended, for any reason.
    pub(crate) fn give(&mut self, cache: KvCache<B>) {
        let is_larger = |kept: &KvCache<B>| kept.capacity() > cache.capacity();
        if !self.kept.as_ref().is_some_and(is_larger) {
            self.kept = Some(cache);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.kept = None;
    }

    /// Room of the kept cache in tokens.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.kept.as_ref().map_or(0, KvCache::capacity)
    }
}

#[cfg(test)]
mod tests {
    use burn_flex::{Flex, FlexDevice};

    use super::*;

    fn cache(held: Option<&[usize]>) -> LayerCache<Flex> {
        LayerCache {
            k: None,
            v: None,
            held: held.map(Arc::from),
        }
    }

    #[test]
    fn a_row_sees_itself_and_what_is_before_it() {
        let cache = cache(None);
        assert_eq!(cache.visible(0, None), 0..1);
        assert_eq!(cache.visible(5, None), 0..6);
    }

    #[test]
    fn a_window_counts_the_row_itself() {
        let cache = cache(None);
        assert_eq!(cache.visible(5, Some(3)), 3..6);
        assert_eq!(cache.visible(1, Some(3)), 0..2);
    }

    fn of_capacity(capacity: usize) -> KvCache<Flex> {
        KvCache {
            layers: Vec::new(),
            capacity,
        }
    }

    #[test]
    fn a_spare_cache_that_is_too_small_is_dropped_and_the_largest_is_kept() {
        let mut spare = SpareCache::new();
        spare.give(of_capacity(8));
        spare.give(of_capacity(4));
        assert_eq!(spare.capacity(), 8);
        assert_eq!(
            spare.take(5, &FlexDevice).map(|cache| cache.capacity()),
            Some(8)
        );
        spare.give(of_capacity(8));
        assert!(spare.take(9, &FlexDevice).is_none());
        assert_eq!(spare.capacity(), 0, "nothing is kept beside the larger one");
    }

    #[test]
    fn a_packed_cache_shows_the_rows_of_the_positions_in_reach() {
        let cache = cache(Some(&[0, 4, 8, 9]));
        assert_eq!(cache.visible(8, None), 0..3);
        assert_eq!(cache.visible(8, Some(5)), 1..3);
        assert_eq!(cache.visible(9, Some(1)), 3..4);
    }
}
