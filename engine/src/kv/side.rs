//! The two sides of a layer's KV.

/// Which of the two blocks of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvSide {
    K,
    V,
}
