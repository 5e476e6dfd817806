//! The mean correction: the average change of a chunk's recomputed rows is added to the
//! rows that were not recomputed (after AgentKVShift, arXiv 2607.21604).

use std::ops::Range;

use burn::tensor::{DType, Tensor};

use super::context::FusionContext;
use super::distance::Pair;
use super::executor::LayerView;
use super::policy::Candidates;
use super::rows::{Rows, indices};
use super::stored::Placed;
use crate::kernel::FusionBackend;
use crate::kv::KvCache;
use crate::model::row_tensor;

/// Corrects the stored rows of one layer in the cache. Chunks without any of the `recomputed` rows (ascending) stay.
pub(super) fn correct<B: FusionBackend>(
    ctx: &mut FusionContext<'_, B>,
    view: &LayerView<'_, B>,
    cache: &mut KvCache<B>,
    placed: &Placed<B>,
    candidates: &Candidates,
    recomputed: &[usize],
) {
    let groups = Groups::new(&candidates.chunks, recomputed, &candidates.rows());
    if groups.others.is_empty() {
        return;
    }
    let device = placed.k.device();
    let Pair { fresh, stored } = Pair::of(recomputed, &view.rows.positions, view.fresh, placed);
    let index = row_tensor::<B>(&indices(&groups.others, &placed.rows), &device);
    let chunk_of = row_tensor::<B>(&groups.chunk_of, &device); // [others]
    let moved = |fresh: Tensor<B, 3>, stored: Tensor<B, 3>, all: &Tensor<B, 3>| {
        let [m, heads, head_dim] = fresh.dims();
        let width = heads * head_dim;
        let change = (fresh.cast(DType::F32) - stored.cast(DType::F32)).reshape([m, width]);
        let change = groups.means(change).select(0, chunk_of.clone());
        let change = change.reshape([groups.others.len(), heads, head_dim]);
        let others = all.clone().select(0, index.clone());
        (others.cast(DType::F32) + change).cast(ctx.decoder.dtype())
    };
    let k = moved(fresh.0, stored.0, &placed.k); // [others, kv_heads, head_dim]
    let v = moved(fresh.1, stored.1, &placed.v);
    let others = Rows::new(ctx, groups.others.clone());
    let rotation = view.layer.rotation(&others.rope);
    let cache = cache.layer_mut(view.step.layer_idx);
    cache.write_fresh(&others.index, k, v, &rotation);
}

/// Which rows are corrected, and from which chunk's recomputed rows.
struct Groups {
    /// Per chunk, the range of its rows among the recomputed ones.
    recomputed: Vec<Range<usize>>,
    /// Candidates that were not recomputed, in chunks that have a recomputed row; ascending.
    others: Vec<usize>,
    /// The chunk of each of `others`.
    chunk_of: Vec<usize>,
}

impl Groups {
    fn new(chunks: &[Range<usize>], recomputed: &[usize], candidates: &[usize]) -> Self {
        let part = |chunk: &Range<usize>| {
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

    /// The mean over the recomputed rows of each chunk; zeros if it has none. Not computed as a matrix product:
    /// tensor cores would round its inputs.
    ///
    /// # Shapes
    /// - rows: `[recomputed, width]`, result: `[chunks, width]`
    fn means<B: FusionBackend>(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        let options = (&rows.device(), rows.dtype());
        let mean = |part: &Range<usize>| match part.is_empty() {
            true => Tensor::zeros([1, rows.dims()[1]], options),
            false => rows.clone().narrow(0, part.start, part.len()).mean_dim(0),
        };
        Tensor::cat(self.recomputed.iter().map(mean).collect(), 0)
    }
}

#[cfg(test)]
mod tests {
    use burn_flex::{Flex, FlexDevice};

    use super::*;

    #[test]
    fn rows_follow_the_recomputed_rows_of_their_own_chunk() {
        let candidates: Vec<usize> = (4..7).chain(9..12).chain(20..22).collect();
        let groups = Groups::new(&[4..7, 9..12, 20..22], &[5, 9, 10], &candidates);
        assert_eq!(groups.recomputed, [0..1, 1..3, 3..3]);
        assert_eq!(groups.others, [4, 6, 11]);
        assert_eq!(groups.chunk_of, [0, 0, 1]);
    }

    #[test]
    fn means_are_over_the_rows_of_a_chunk() {
        let candidates: Vec<usize> = (4..7).chain(9..12).chain(20..22).collect();
        let groups = Groups::new(&[4..7, 9..12, 20..22], &[5, 9, 10], &candidates);
        let rows = Tensor::<Flex, 2>::from_data([[1.0, 2.0], [3.0, 4.0], [5.0, 8.0]], &FlexDevice);
        let means: Vec<f32> = groups.means(rows).into_data().iter::<f32>().collect();
        assert_eq!(means, [1.0, 2.0, 4.0, 6.0, 0.0, 0.0]);
    }
}
