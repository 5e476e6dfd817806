//! Rows of a prompt that are computed together: their positions and what placing them needs.

use burn::tensor::{Int, Tensor};

use super::context::FusionContext;
use crate::kernel::FusionBackend;
use crate::model::{RopeRows, row_tensor};

/// Fresh K (before RoPE) and V of rows `[m, kv_heads, head_dim]` computed at a layer.
pub(crate) type Fresh<B> = (Tensor<B, 3>, Tensor<B, 3>);

/// Rows of the prompt with what is needed to place them.
pub(crate) struct Rows<B: FusionBackend> {
    pub positions: Vec<usize>, // ascending
    pub index: Tensor<B, 1, Int>,
    pub rope: RopeRows<B>,
}

impl<B: FusionBackend> Rows<B> {
    pub(super) fn new(ctx: &mut FusionContext<'_, B>, positions: Vec<usize>) -> Self {
        let index = row_tensor(&positions, ctx.decoder.device());
        let rope = ctx.rope.rows(&positions);
        Self {
            positions,
            index,
            rope,
        }
    }
}

/// The index of each of `rows` in `all`; both ascending, `rows` a subset of `all`.
pub(super) fn indices(rows: &[usize], all: &[usize]) -> Vec<usize> {
    let found = rows.iter().filter_map(|row| all.binary_search(row).ok());
    found.collect()
}

/// Those of `rows` that are in `all`; both ascending.
pub(super) fn common(rows: &[usize], all: &[usize]) -> Vec<usize> {
    let is_in = |row: &usize| all.binary_search(row).is_ok();
    rows.iter().copied().filter(is_in).collect()
}
