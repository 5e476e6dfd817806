//! How far the stored KV of rows is from their fresh KV at a layer.

use burn::tensor::Tensor;

use super::rows::{Fresh, indices};
use super::selection::Deviation;
use super::stored::Placed;
use crate::kernel::{FusionBackend, row_distance};
use crate::model::row_tensor;

/// Fresh and stored KV of the same rows.
pub(super) struct Pair<B: FusionBackend> {
    pub fresh: Fresh<B>,
    pub stored: Fresh<B>,
}

impl<B: FusionBackend> Pair<B> {
    /// The KV of `rows`, which are among the rows computed and among those placed; all ascending.
    pub(super) fn of(
        rows: &[usize],
        computed: &[usize],
        fresh: &Fresh<B>,
        placed: &Placed<B>,
    ) -> Self {
        let device = placed.k.device();
        let select = |(k, v): (&Tensor<B, 3>, &Tensor<B, 3>), among: &[usize]| {
            let index = row_tensor::<B>(&indices(rows, among), &device);
            (
                k.clone().select(0, index.clone()),
                v.clone().select(0, index),
            )
        };
        Self {
            fresh: select((&fresh.0, &fresh.1), computed),
            stored: select((&placed.k, &placed.v), &placed.rows),
        }
    }

    /// Squared L2 distance per row, summed over heads and dimensions, in f32.
    pub(super) fn distance(self, which: Deviation) -> Vec<f32> {
        let (k, v) = self.sides(row_distance);
        floats(match which {
            Deviation::K => k,
            Deviation::V => v,
            Deviation::Kv => k + v,
        })
    }

    /// [`Pair::distance`] with K and V each divided by the mean squared norm of the fresh rows, so
    /// that layers, and K and V, can be compared: 1 means a deviation as large as a typical row.
    pub(super) fn relative_distance(self, which: Deviation) -> Vec<f32> {
        let (k, v) = self.sides(|fresh, stored| {
            let norm = row_distance(fresh.clone(), fresh.zeros_like()).mean();
            row_distance(fresh, stored) / norm.clamp_min(f32::MIN_POSITIVE)
        });
        floats(match which {
            Deviation::K => k,
            Deviation::V => v,
            Deviation::Kv => k + v,
        })
    }

    fn sides(
        self,
        distance: impl Fn(Tensor<B, 3>, Tensor<B, 3>) -> Tensor<B, 1>,
    ) -> (Tensor<B, 1>, Tensor<B, 1>) {
        let k = distance(self.fresh.0, self.stored.0);
        (k, distance(self.fresh.1, self.stored.1))
    }
}

fn floats<B: FusionBackend>(values: Tensor<B, 1>) -> Vec<f32> {
    values.into_data().iter::<f32>().collect()
}
