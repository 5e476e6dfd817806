//! Limits on the sizes in a config.
//!
//! They are far above any published model of these families and keep every product of two sizes
//! inside a `u64`, so that a hostile config cannot ask for an absurd buffer.

use super::fields::Fields;
use crate::error::EngineError;

pub(super) const MAX_VOCAB_SIZE: usize = 1 << 22;
pub(super) const MAX_HIDDEN_SIZE: usize = 1 << 17;
pub(super) const MAX_INTERMEDIATE_SIZE: usize = 1 << 20;
pub(super) const MAX_LAYERS: usize = 1 << 10;
pub(super) const MAX_HEADS: usize = 1 << 10;
pub(super) const MAX_HEAD_DIM: usize = 1 << 10;
pub(super) const MAX_POSITIONS: usize = 1 << 24;
/// Bound on the parameter count, checked before anything is allocated for random weights.
pub(super) const MAX_PARAMETERS: u64 = 1 << 40;

/// Refuses a size of 0 or above its limit.
pub(super) fn check_size(
    fields: Fields<'_>,
    name: &str,
    size: usize,
    limit: usize,
) -> Result<(), EngineError> {
    if (1..=limit).contains(&size) {
        return Ok(());
    }
    Err(fields.refuse(name, format!("must be between 1 and {limit}, found {size}")))
}
