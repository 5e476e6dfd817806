//! The report of a fused prefill, which shows a user why it was fast or slow.

use std::time::Duration;

use super::Mode;

/// Counts and times of one prefill.
#[derive(Debug, Clone)]
pub struct FuseReport {
    /// The mode as planned: ratio 0 is `Reuse`, ratio 1 is `Full`.
    pub mode: Mode,
    pub prompt_tokens: usize,
    /// Prefix tokens whose KV came from the prefix cache.
    pub prefix_tokens_cached: usize,
    /// Chunk tokens whose stored KV was placed.
    pub tokens_loaded: usize,
    /// Loaded tokens that were computed again at the last layer's input.
    pub tokens_recomputed: usize,
    /// Tokens computed at every layer: question, misses, an uncached prefix; in a full prefill, all of them.
    pub tokens_prefilled: usize,
    /// From memory and disk together.
    pub bytes_loaded: u64,
    /// Stored KV that was in this process's memory already.
    pub bytes_from_memory: u64,
    /// Stored KV read from files, whether or not the system had them cached.
    pub bytes_from_disk: u64,
    pub chunks_hit: usize,
    pub chunks_missed: usize,
    /// Chunks whose KV proved bad while loading; they count as missed.
    pub failed_chunks: Vec<usize>,
    pub replans: usize,
    /// Prompt positions recomputed among the loaded ones, ascending.
    pub recomputed_rows: Vec<usize>,
    /// Rows that went through attention and MLP, summed over layers, probes included. For a full
    /// prefill `(n_layers - 1) x prompt_tokens + 1`: at the last layer only the last row goes on.
    pub rows_forwarded: usize,
    /// The share of the deviation that belongs to rows not recomputed, at the last comparison; `None`
    /// if nothing was compared.
    pub deviation_left: Option<f64>,
    pub timings: FuseTimings,
}

impl FuseReport {
    /// `rows_forwarded` divided by that of a full prefill without any cache, on a model of `n_layers`.
    pub fn computed_share(&self, n_layers: usize) -> f64 {
        let full = n_layers.saturating_sub(1) * self.prompt_tokens + 1;
        self.rows_forwarded as f64 / full as f64
    }
}

/// Stage times of one prefill.
#[derive(Debug, Clone, Copy, Default)]
pub struct FuseTimings {
    /// From submission until the engine thread took the request.
    pub queue: Duration,
    /// Time the reader threads spent on this prompt's KV, summed over threads.
    pub load: Duration,
    /// Time the engine thread waited for the reader threads.
    pub load_wait: Duration,
    /// Time for what the policy had to observe before it could choose rows, without `load_wait`.
    pub probe: Duration,
    /// Placing and computing, without `load_wait` and `probe`.
    pub recompute: Duration,
    /// Output projection of the last position, until its logits are on the host.
    pub first_decode: Duration,
}
