//! The mean correction: what recomputing changed in a chunk's rows, on average, is added to the
//! rows that were not recomputed (after AgentKVShift, arXiv 2607.21604).

use burn::tensor::{DType, Tensor, TensorData};

use super::deviation::{Fresh, Pair};
use super::prefill::FusionContext;
use super::recompute::Run;
use super::rows::indices;
use super::stored::{Placed, Rows};
use crate::kernel::FusionBackend;
use crate::model::row_tensor;

impl<B: FusionBackend> Run<B> {
    /// Moves the stored rows of one layer in the cache. Chunks without a recomputed row stay.
    pub(super) fn correct(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        layer_idx: usize,
        fresh: &Fresh<B>,
        placed: &Placed<B>,
    ) {
        let recomputed = self.alive_candidates();
        let groups = Groups::new(&self.chunks, &recomputed, &self.candidates);
        if groups.others.is_empty() {
            return;
        }
        let device = placed.k.device();
        let Pair { fresh, stored } = Pair::of(&recomputed, &self.alive.positions, fresh, placed);
        let index = row_tensor::<B>(&indices(&groups.others, &placed.rows), &device);
        let average = groups.average::<B>(recomputed.len(), &device); // [chunks, recomputed]
        let chunk_of = row_tensor::<B>(&groups.chunk_of, &device); // [others]
        let moved = |fresh: Tensor<B, 3>, stored: Tensor<B, 3>, all: &Tensor<B, 3>| {
            let [m, heads, head_dim] = fresh.dims();
            let width = heads * head_dim;
            let change = (fresh.cast(DType::F32) - stored.cast(DType::F32)).reshape([m, width]);
            let change = average.clone().matmul(change).select(0, chunk_of.clone());
            let change = change.reshape([groups.others.len(), heads, head_dim]);
            let others = all.clone().select(0, index.clone());
            (others.cast(DType::F32) + change).cast(ctx.decoder.dtype())
        };
        let k = moved(fresh.0, stored.0, &placed.k); // [others, kv_heads, head_dim]
        let v = moved(fresh.1, stored.1, &placed.v);
        let others = Rows::new(ctx, groups.others.clone());
        let cache = self.cache.layer_mut(layer_idx);
        cache.write_fresh(&others.index, k, v, &others.rope.rotation());
    }
}

/// Which rows are corrected, and from which chunk's recomputed rows.
struct Groups {
    /// Per chunk the range of its rows among the recomputed ones.
    recomputed: Vec<std::ops::Range<usize>>,
    /// Candidates that were not recomputed, of chunks that have a recomputed row; ascending.
    others: Vec<usize>,
    /// The chunk of each of them.
    chunk_of: Vec<usize>,
}

impl Groups {
    fn new(chunks: &[std::ops::Range<usize>], recomputed: &[usize], candidates: &[usize]) -> Self {
        let part = |chunk: &std::ops::Range<usize>| {
            let before = |end: usize| recomputed.partition_point(|&row| row < end);
            before(chunk.start)..before(chunk.end)
        };
        let parts: Vec<_> = chunks.iter().map(part).collect();
        let (mut others, mut chunk_of) = (Vec::new(), Vec::new());
        for &row in candidates {
            let chunk = chunks.partition_point(|chunk| chunk.end <= row);
            if !parts[chunk].is_empty() && recomputed.binary_search(&row).is_err() {
                others.push(row);
                chunk_of.push(chunk);
            }
        }
        Self {
            recomputed: parts,
            others,
            chunk_of,
        }
    }

    /// Row `c` averages the recomputed rows of chunk `c`: `[chunks, recomputed]`, in f32.
    fn average<B: FusionBackend>(&self, n: usize, device: &B::Device) -> Tensor<B, 2> {
        let mut weights = vec![0.0_f32; self.recomputed.len() * n];
        for (chunk, rows) in self.recomputed.iter().enumerate() {
            let of_chunk = &mut weights[chunk * n..][rows.clone()];
            of_chunk.fill(1.0 / rows.len() as f32);
        }
        let data = TensorData::new(weights, [self.recomputed.len(), n]);
        Tensor::from_data(data, (device, DType::F32))
    }
}

#[cfg(test)]
mod tests {
    use super::Groups;

    #[test]
    fn rows_follow_the_recomputed_rows_of_their_own_chunk() {
        let candidates: Vec<usize> = (4..7).chain(9..12).chain(20..22).collect();
        let groups = Groups::new(&[4..7, 9..12, 20..22], &[5, 9, 10], &candidates);
        assert_eq!(groups.recomputed, [0..1, 1..3, 3..3]);
        assert_eq!(groups.others, [4, 6, 11]);
        assert_eq!(groups.chunk_of, [0, 0, 1]);
    }

    #[test]
    fn averages_are_over_the_rows_of_a_chunk() {
        let candidates: Vec<usize> = (4..7).chain(9..12).collect();
        let groups = Groups::new(&[4..7, 9..12], &[5, 9, 10], &candidates);
        let average = groups.average::<burn_flex::Flex>(3, &burn_flex::FlexDevice);
        let average: Vec<f32> = average.into_data().iter::<f32>().collect();
        assert_eq!(average, [1.0, 0.0, 0.0, 0.0, 0.5, 0.5]);
    }
}
