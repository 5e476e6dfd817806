//! `first-k`: the first tokens of each chunk, where a chunk computed alone puts the attention sink
//! it would not have inside a prompt (EPIC, arXiv 2410.15332).
//!
//! Cost: rows are known before layer 0, so nothing waits for the cache. Needs nothing at ingest.

use super::{Candidates, share};

/// The first `ceil(ratio x length)` rows of each candidate chunk.
pub(super) fn rows(candidates: &Candidates) -> Vec<usize> {
    let firsts = candidates
        .chunks
        .iter()
        .flat_map(|chunk| chunk.start..chunk.start + share(candidates.ratio, chunk.len()));
    firsts.collect()
}
