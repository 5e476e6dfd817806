//! `all`: every row of the prompt, the prefix and exact chunks too. Costs a full prefill and
//! needs nothing at ingest; it exists because its result must equal full prefill.

use super::Candidates;

pub(super) fn rows(candidates: &Candidates) -> Vec<usize> {
    (0..candidates.prompt_tokens).collect()
}
