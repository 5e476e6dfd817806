//! Projections on GPUs. `gpu/backend.rs` decides which of these computes a product.

pub(super) mod exact;
pub(super) mod hopper;
pub(super) mod plain;
mod row;
pub(super) mod tensor_cores;
