//! Checks a merged configuration beyond what its types express.

use std::time::Duration;

use super::Config;
use super::prompt_strings::PromptStrings;
use super::sections::MAX_NEIGHBOURS;

/// Longest time that any setting may ask for: adding an arbitrary number of seconds to a clock could overflow.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

impl Config {
    /// Checks what types cannot express. Returns the key at fault and what is wrong with it.
    pub(super) fn validate(&self) -> Result<(), (&'static str, String)> {
        let limits = &self.limits;
        let positive = [
            ("limits.max_queue", limits.max_queue),
            ("limits.max_top_k", limits.max_top_k),
            ("limits.max_output_tokens", limits.max_output_tokens),
            ("limits.max_question_bytes", limits.max_question_bytes),
            ("limits.max_prefill_tokens", limits.max_prefill_tokens),
            ("limits.max_model_len", limits.max_model_len.unwrap_or(1)),
            ("limits.max_metadata_bytes", limits.max_metadata_bytes()),
            ("limits.max_prefix_entries", limits.max_prefix_entries),
            ("retrieval.top_k", self.retrieval.top_k),
            ("ingest.chunk_tokens", self.ingest.chunk_tokens),
        ];
        limits.validate_bytes()?;
        if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err((key, "must be at least 1".to_owned()));
        }
        let times = [
            ("limits.max_deadline_s", limits.max_deadline),
            ("limits.max_document_s", limits.max_document_time),
            ("limits.max_engine_wait_s", limits.max_engine_wait),
            ("store.read_timeout_s", self.store.read_timeout),
            ("embedder.timeout_s", self.embedder.timeout),
        ];
        if let Some((key, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err((*key, "must be at least 1".to_owned()));
        }
        let mut bounded = times.into_iter().chain([("limits.drain_s", limits.drain)]);
        if let Some((key, _)) = bounded.find(|(_, time)| *time > MAX_TIME) {
            let most = MAX_TIME.as_secs();
            return Err((key, format!("must be at most {most}, a year")));
        }
        if self.retrieval.top_k > limits.max_top_k {
            let limit = limits.max_top_k;
            return Err((
                "retrieval.top_k",
                format!("is above limits.max_top_k, {limit}"),
            ));
        }
        self.retrieval.validate_index()?;
        if self.ingest.neighbours > MAX_NEIGHBOURS {
            return Err((
                "ingest.neighbours",
                format!(
                    "must lie in 0..={MAX_NEIGHBOURS}, is {}",
                    self.ingest.neighbours
                ),
            ));
        }
        self.fusion.validate()?;
        let shadow_full = self.telemetry.shadow_full;
        if !(0.0..=1.0).contains(&shadow_full) {
            return Err((
                "telemetry.shadow_full",
                format!("must lie in 0..=1, is {shadow_full}"),
            ));
        }
        self.prompt.as_ref().map_or(Ok(()), PromptStrings::validate)
    }
}
