//! The sections of a configuration, except `[limits]`, `[fusion]` and `[prompt]`.

use std::time::Duration;

use ragweave_retriever::{IndexKind, IndexOptions};
use ragweave_store::KvIo;
use serde::Deserialize;

use super::parse;

/// Most neighbours that a chunk's KV may be computed after.
pub const MAX_NEIGHBOURS: usize = 8;

/// The retrieval settings for what a request does not specify.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrievalConfig {
    pub top_k: usize,
    pub order: Order,
    pub index: IndexKind,
    pub hnsw_threshold: usize,
    pub hnsw_m: usize,
    pub hnsw_ef_construction: usize,
    pub hnsw_ef_search: usize,
}

impl RetrievalConfig {
    /// The settings of the index.
    pub fn index_options(&self) -> IndexOptions {
        IndexOptions {
            kind: self.index,
            hnsw_threshold: self.hnsw_threshold,
            m: self.hnsw_m,
            ef_construction: self.hnsw_ef_construction,
            ef_search: self.hnsw_ef_search,
        }
    }

    /// Checks the bounds of the graph's parameters. Returns the key at fault and what is wrong with it.
    pub(super) fn validate_index(&self) -> Result<(), (&'static str, String)> {
        let bounded = [
            ("retrieval.hnsw_m", self.hnsw_m, IndexOptions::M),
            (
                "retrieval.hnsw_ef_construction",
                self.hnsw_ef_construction,
                IndexOptions::EF_CONSTRUCTION,
            ),
            (
                "retrieval.hnsw_ef_search",
                self.hnsw_ef_search,
                IndexOptions::EF_SEARCH,
            ),
        ];
        let outside = bounded
            .iter()
            .find(|(_, value, range)| !range.contains(value));
        outside.map_or(Ok(()), |(key, value, range)| {
            let (least, most) = (range.start(), range.end());
            Err((*key, format!("must lie in {least}..={most}, is {value}")))
        })
    }
}

/// Order of the passages in the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Best first.
    Score,
    /// Reading order: by document, then by position in it.
    Document,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestConfig {
    /// Longest chunk in tokens, its wrapper included.
    pub chunk_tokens: usize,
    /// Number of neighbours after which each chunk's KV is computed; see [`crate::ingest::Ingestor::condition`].
    pub neighbours: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    pub max_segment_bytes: u64,
    pub min_free_bytes: u64,
    #[serde(deserialize_with = "parse::from_text")]
    pub kv_io: KvIo,
    /// Stored KV that takes longer to read is computed instead.
    #[serde(rename = "read_timeout_s", deserialize_with = "parse::seconds")]
    pub read_timeout: Duration,
    pub memory_bytes: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Share of the fused requests that are compared with a full prefill in the background, 0..=1.
    pub shadow_full: f64,
}
