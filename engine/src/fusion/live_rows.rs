//! The rows of one sequence on their way through the layers.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};

use super::context::FusionContext;
use super::rows::{Rows, indices};
use super::schedule::{LayerStep, Pass};
use crate::kernel::FusionBackend;
use crate::model::row_tensor;

/// Positions, ascending, and the same as a tensor.
type Positions<B> = (Arc<[usize]>, Tensor<B, 1, Int>);

/// The rows of one sequence that a pass computes, between two layers.
pub(crate) struct LiveRows<B: FusionBackend> {
    pub(super) steps: Arc<[LayerStep]>,
    /// Index of the step that runs next.
    pub(super) next: usize,
    pub rows: Rows<B>,
    /// `[rows, hidden_size]`; absent only while a layer runs.
    pub(super) hidden: Option<Tensor<B, 2>>,
    /// The positions that the rows may attend to, and the same as a tensor; if absent, all before them.
    pub(super) sees: Option<Positions<B>>,
    /// Rows that have gone through attention and MLP so far, summed over layers.
    pub rows_forwarded: usize,
}

impl<B: FusionBackend> LiveRows<B> {
    /// Rows before the first layer. `ids`: the token at each of `positions`, which are ascending.
    pub(crate) fn start(
        ctx: &mut FusionContext<'_, B>,
        steps: Arc<[LayerStep]>,
        positions: Vec<usize>,
        ids: &[u32],
    ) -> Self {
        Self {
            hidden: Some(ctx.decoder.embed(ids)),
            rows: Rows::new(ctx, positions),
            next: 0,
            sees: None,
            rows_forwarded: 0,
            steps,
        }
    }

    /// The rows of a pass of a prompt: its fixed rows and the `chosen` candidates.
    pub(super) fn of_pass(
        ctx: &mut FusionContext<'_, B>,
        pass: &Pass,
        chosen: &[usize],
        prompt_ids: &[u32],
    ) -> Self {
        let positions = merged(&pass.fixed, chosen);
        let ids: Vec<u32> = positions.iter().map(|&row| prompt_ids[row]).collect();
        let device = ctx.decoder.device();
        let sees = pass.sees.clone();
        let sees = sees.map(|held| (held.clone(), row_tensor::<B>(&held, device)));
        Self {
            sees,
            ..Self::start(ctx, pass.steps.clone(), positions, &ids)
        }
    }

    /// The step that runs next; `None` after the last one.
    pub(crate) fn step(&self) -> Option<&LayerStep> {
        self.steps.get(self.next)
    }

    /// The rows after the last layer: `[rows, hidden_size]`.
    pub(crate) fn into_hidden(self) -> Option<Tensor<B, 2>> {
        self.hidden
    }

    /// Leaves only `kept` rows alive, ascending; returns their normed input.
    pub(super) fn narrow(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        kept: Vec<usize>,
        normed: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        if kept == self.rows.positions {
            return normed;
        }
        let index = row_tensor::<B>(&indices(&kept, &self.rows.positions), &normed.device());
        self.hidden = self.hidden.take().map(|x| x.select(0, index.clone()));
        self.rows = Rows::new(ctx, kept);
        normed.select(0, index)
    }
}

/// Merges two ascending lists without common elements.
fn merged(fixed: &[usize], chosen: &[usize]) -> Vec<usize> {
    let mut rows = [fixed, chosen].concat();
    rows.sort_unstable();
    rows.dedup();
    rows
}
