//! The list of known keys: how the text of each is parsed, and which key a misspelled one may stand for.

use std::collections::BTreeSet;

use strsim::levenshtein;
use toml::Value;

use super::error::ConfigError;
use super::removed::instead_of;

/// How the text of a flag or an environment variable is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Float,
    Bool,
}

/// The key whose value is never shown.
pub(super) const SECRET: &str = "embedder.api_key";

/// Every key. `default.toml` documents them in this order; a test keeps the two in sync.
const KEYS: &[(&str, Kind)] = &[
    ("data", Kind::Text),
    ("model", Kind::Text),
    ("device", Kind::Text),
    ("dtype", Kind::Text),
    ("kv_dtype", Kind::Text),
    ("isa", Kind::Text),
    ("listen", Kind::Text),
    ("allow_recompute", Kind::Bool),
    ("system", Kind::Text),
    ("limits.max_queue", Kind::Integer),
    ("limits.max_top_k", Kind::Integer),
    ("limits.max_output_tokens", Kind::Integer),
    ("limits.max_question_bytes", Kind::Integer),
    ("limits.max_prefill_tokens", Kind::Integer),
    ("limits.max_model_len", Kind::Integer),
    ("limits.max_deadline_s", Kind::Integer),
    ("limits.max_message_bytes", Kind::Integer),
    ("limits.max_document_bytes", Kind::Integer),
    ("limits.max_metadata_bytes", Kind::Integer),
    ("limits.max_prefix_entries", Kind::Integer),
    ("limits.max_document_s", Kind::Integer),
    ("limits.max_engine_wait_s", Kind::Integer),
    ("limits.drain_s", Kind::Integer),
    ("retrieval.top_k", Kind::Integer),
    ("retrieval.order", Kind::Text),
    ("retrieval.index", Kind::Text),
    ("retrieval.hnsw_threshold", Kind::Integer),
    ("retrieval.hnsw_m", Kind::Integer),
    ("retrieval.hnsw_ef_construction", Kind::Integer),
    ("retrieval.hnsw_ef_search", Kind::Integer),
    ("fusion.mode", Kind::Text),
    ("fusion.selection", Kind::Text),
    ("fusion.ratio", Kind::Float),
    ("fusion.min_ratio", Kind::Float),
    ("ingest.chunk_tokens", Kind::Integer),
    ("ingest.neighbours", Kind::Integer),
    ("embedder.model", Kind::Text),
    ("embedder.device", Kind::Text),
    ("embedder.query_prompt", Kind::Text),
    ("embedder.document_prompt", Kind::Text),
    ("embedder.timeout_s", Kind::Integer),
    (SECRET, Kind::Text),
    ("store.max_segment_bytes", Kind::Integer),
    ("store.min_free_bytes", Kind::Integer),
    ("store.kv_io", Kind::Text),
    ("store.read_timeout_s", Kind::Integer),
    ("store.memory_bytes", Kind::Integer),
    ("telemetry.shadow_full", Kind::Float),
    ("prompt.prefix", Kind::Text),
    ("prompt.chunk", Kind::Text),
    ("prompt.question", Kind::Text),
];

impl Kind {
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "a whole number",
            Self::Float => "a number",
            Self::Bool => "true or false",
        }
    }
}

pub(super) fn parse(kind: Kind, text: &str) -> Option<Value> {
    match kind {
        Kind::Text => Some(Value::String(text.to_owned())),
        Kind::Integer => text.trim().parse().ok().map(Value::Integer),
        Kind::Float => text.trim().parse().ok().map(Value::Float),
        Kind::Bool => text.trim().parse().ok().map(Value::Boolean),
    }
}

/// All keys, in the order of `default.toml`.
pub(super) fn all_keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(key, _)| *key)
}

pub(super) fn known(key: &str, origin: &str) -> Result<Kind, ConfigError> {
    KEYS.iter()
        .find(|(name, _)| *name == key)
        .map(|(_, kind)| *kind)
        .ok_or_else(|| unknown(key, origin, nearest(key, all_keys()).map(str::to_owned)))
}

/// The error for a key that does not exist: names its replacement, or the key that may be meant.
pub(super) fn unknown(key: &str, origin: &str, suggestion: Option<String>) -> ConfigError {
    let (key, origin) = (key.to_owned(), origin.to_owned());
    match instead_of(&key) {
        Some(instead) => ConfigError::Removed {
            key,
            origin,
            instead,
        },
        None => ConfigError::UnknownKey {
            key,
            origin,
            suggestion,
        },
    }
}

/// The candidate that differs from `word` by a typing error or a forgotten section name.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let mut best: BTreeSet<(usize, &str)> = candidates
        .map(|candidate| {
            let bare = candidate.rsplit('.').next().unwrap_or(candidate);
            (
                levenshtein(word, candidate).min(levenshtein(word, bare)),
                candidate,
            )
        })
        .collect();
    best.pop_first()
        .filter(|(distance, _)| *distance <= 2 + word.len() / 8)
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_near_and_another_word_is_not() {
        let near = |word| nearest(word, all_keys());
        assert_eq!(near("limits.max_queu"), Some("limits.max_queue"));
        assert_eq!(near("max_quwue"), Some("limits.max_queue"));
        assert_eq!(near("Device"), Some("device"));
        assert_eq!(near("colour"), None);
    }
}
