//! `[limits]`: named maxima, and the relations between them that must hold.

use std::time::Duration;

use serde::Deserialize;

use super::parse;

/// A message must hold a document's id twice, and the fields beside it.
pub(crate) const MIN_MESSAGE_BYTES: usize = 4096;
/// The length of a gRPC message is written as a `u32`.
const MAX_MESSAGE_BYTES: usize = u32::MAX as usize;
/// Most bytes that the store keeps in one value.
const MAX_DOCUMENT_BYTES: usize = 1 << 31;
/// Default limit on the metadata of one document. With it the sources of 64 chunks fit the default message size.
const DEFAULT_METADATA_BYTES: usize = 32 << 10;

/// Default answer length if the request gives none, before the limits of server and model are applied.
const DEFAULT_MAX_TOKENS: usize = 256;
/// An answer of default length reserves at most this part of the context window.
const DEFAULT_ANSWER_SHARE: usize = 4;

/// Named maxima of everything a request or a document can ask for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub max_queue: usize,
    pub max_top_k: usize,
    pub max_output_tokens: usize,
    pub max_question_bytes: usize,
    pub max_prefill_tokens: usize,
    /// Context in tokens; `None` stands for the model's own.
    #[serde(default)]
    pub max_model_len: Option<usize>,
    #[serde(rename = "max_deadline_s", deserialize_with = "parse::seconds")]
    pub max_deadline: Duration,
    pub max_message_bytes: usize,
    pub max_document_bytes: usize,
    /// As configured; [`Limits::max_metadata_bytes`] is the effective limit.
    #[serde(default, rename = "max_metadata_bytes")]
    pub metadata_setting: Option<usize>,
    pub max_prefix_entries: usize,
    #[serde(rename = "max_document_s", deserialize_with = "parse::seconds")]
    pub max_document_time: Duration,
    #[serde(rename = "max_engine_wait_s", deserialize_with = "parse::seconds")]
    pub max_engine_wait: Duration,
    #[serde(rename = "drain_s", deserialize_with = "parse::seconds")]
    pub drain: Duration,
}

impl Limits {
    /// Longest answer in tokens if the request gives no limit. `max_model_len` is the model's context in tokens.
    pub(crate) fn default_max_tokens(&self, max_model_len: usize) -> usize {
        let of_context = (max_model_len / DEFAULT_ANSWER_SHARE).max(1);
        DEFAULT_MAX_TOKENS
            .min(self.max_output_tokens)
            .min(of_context)
    }

    /// Largest metadata of one document: bytes of its keys and values together.
    pub fn max_metadata_bytes(&self) -> usize {
        let default = DEFAULT_METADATA_BYTES.min(self.max_message_bytes / 2);
        self.metadata_setting.unwrap_or(default)
    }

    /// Returns the key at fault and what is wrong with it.
    pub(super) fn validate_bytes(&self) -> Result<(), (&'static str, String)> {
        let (message, document) = (self.max_message_bytes, self.max_document_bytes);
        let messages = MIN_MESSAGE_BYTES..=MAX_MESSAGE_BYTES;
        for (key, value, range) in [
            ("limits.max_message_bytes", message, messages),
            (
                "limits.max_document_bytes",
                document,
                1..=MAX_DOCUMENT_BYTES,
            ),
        ] {
            if !range.contains(&value) {
                let (least, most) = range.into_inner();
                return Err((key, format!("must lie in {least}..={most}, is {value}")));
            }
        }
        let half = message / 2;
        if self.max_metadata_bytes() > half {
            let message = format!(
                "is above half of limits.max_message_bytes, {half}: no answer could carry it"
            );
            return Err(("limits.max_metadata_bytes", message));
        }
        Ok(())
    }
}
