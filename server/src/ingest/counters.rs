//! Running totals of an ingest, read by progress displays while a long document is in progress.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since the ingestor was made. Each only grows; they are not read together atomically.
#[derive(Debug, Default)]
pub struct IngestCounters {
    chunks: AtomicU64,
    tokens: AtomicU64,
    kv_bytes: AtomicU64,
}

impl IngestCounters {
    /// Chunks whose KV is written or was there already.
    pub fn chunks(&self) -> u64 {
        self.chunks.load(Ordering::Relaxed)
    }

    /// Tokens of those chunks.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// KV bytes written.
    pub fn kv_bytes(&self) -> u64 {
        self.kv_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, n_tokens: usize, kv_bytes: u64) {
        self.chunks.fetch_add(1, Ordering::Relaxed);
        self.tokens.fetch_add(n_tokens as u64, Ordering::Relaxed);
        self.kv_bytes.fetch_add(kv_bytes, Ordering::Relaxed);
    }
}
