//! Projections on GPUs. Which of these takes a product is decided in `gpu/backend.rs`.

pub(super) mod exact;
pub(super) mod hopper;
pub(super) mod plain;
mod row;
pub(super) mod tensor_cores;
