//! What stops a prefill before its end.

use crate::error::EngineError;
use crate::kv::SourceError;

/// A check called between steps: `Some` stops the work with that error.
pub(crate) type StopCheck<'a> = &'a dyn Fn() -> Option<EngineError>;

/// A block of stored KV that could not be read.
#[derive(Debug, Clone)]
pub(crate) struct BadBlock {
    pub chunk: usize,
    pub layer: usize,
    pub error: SourceError,
}

/// Why a prefill does not go on.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// Stored KV proved bad; the prompt is planned again without it.
    BadBlock(BadBlock),
    /// Cancelled or expired.
    Stopped(EngineError),
}

impl From<BadBlock> for Interrupt {
    fn from(block: BadBlock) -> Self {
        Self::BadBlock(block)
    }
}
