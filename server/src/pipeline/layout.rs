//! The second step of planning: which passages fit the context window, in which order, and the prompt's token ids.

use std::collections::HashMap;

use ragweave_engine::{EngineError, PromptSegments};

use super::error::AnswerError;
use super::find::{FindTimes, Found};
use super::passage::Passage;
use super::planner::Planner;
use super::query::{Context, Query, Search};
use super::room;
use crate::config::Order;

/// The prompt: which passages it holds, in order, and its token ids.
#[derive(Clone)]
pub struct Layout {
    /// In prompt order; one per chunk of the segments.
    pub passages: Vec<Passage>,
    /// Found but too long for the context window, best first.
    pub dropped: Vec<Passage>,
    pub(super) segments: PromptSegments,
    pub(super) times: FindTimes,
}

impl Planner {
    /// Fits the passages into the context window, with room for the answer, and makes the prompt's ids.
    pub(super) fn lay_out(&self, query: &Query, found: Found) -> Result<Layout, AnswerError> {
        let Found {
            mut passages,
            times,
        } = found;
        let components = &self.components;
        let mut segments = components
            .prompt
            .segments(query.system.as_deref(), &[], &query.text)?;
        let limit = components.engine.model().max_model_len;
        // The engine requires room for one token after the prompt, even if none is requested.
        let fixed = segments.n_tokens() + query.sampling.max_tokens.max(1);
        let kept = fitting(&passages, fixed, limit);
        let may_drop = matches!(query.context, Context::Search(_));
        if fixed > limit || (kept < passages.len() && !may_drop) {
            let chunks: usize = passages.iter().map(|passage| passage.token_ids.len()).sum();
            let tokens = fixed + if may_drop { 0 } else { chunks };
            return Err(EngineError::PromptTooLong { tokens, limit }.into());
        }
        let mut dropped = passages.split_off(kept);
        if let Some(limit) = query.max_source_bytes {
            room::fit(&passages, &mut dropped, limit)?;
        }
        let passages = in_prompt_order(query, passages);
        segments.chunks = passages
            .iter()
            .map(|passage| passage.token_ids.clone())
            .collect();
        Ok(Layout {
            passages,
            dropped,
            segments,
            times,
        })
    }
}

impl Layout {
    /// For each passage, the anchor tokens that ingest noted; empty if it noted none.
    pub(super) fn anchors(&self) -> Vec<Vec<u32>> {
        let of = |passage: &Passage| passage.notes.as_ref().map(|notes| notes.anchors.clone());
        let passages = self.passages.iter();
        passages
            .map(|passage| of(passage).unwrap_or_default())
            .collect()
    }
}

/// Puts passages that are best first into prompt order; named chunks keep their order.
pub(super) fn in_prompt_order(query: &Query, passages: Vec<Passage>) -> Vec<Passage> {
    match &query.context {
        Context::Search(Search {
            order: Order::Document,
            ..
        }) => in_reading_order(passages),
        Context::Search(_) | Context::Chunks(_) => passages,
    }
}

/// How many passages, best first, fit in addition to `fixed` tokens.
fn fitting(passages: &[Passage], fixed: usize, limit: usize) -> usize {
    let mut total = fixed;
    let fits = passages.iter().take_while(|passage| {
        total += passage.token_ids.len();
        total <= limit
    });
    fits.count()
}

/// Reading order within each document; documents are ordered by their best passage.
fn in_reading_order(mut passages: Vec<Passage>) -> Vec<Passage> {
    let mut rank_of = HashMap::new();
    for passage in &passages {
        let next = rank_of.len();
        rank_of.entry(passage.document_id.clone()).or_insert(next);
    }
    passages.sort_by_key(|passage| (rank_of[&passage.document_id], passage.start_byte));
    passages
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ragweave_store::BlobKey;

    use super::*;

    fn passage(document_id: &str, start_byte: u64, n_tokens: usize) -> Passage {
        Passage {
            document_id: document_id.to_owned(),
            chunk_id: format!("{document_id}@{start_byte}"),
            start_byte,
            end_byte: start_byte + 1,
            score: None,
            text: String::new(),
            metadata: BTreeMap::new(),
            token_ids: vec![0; n_tokens],
            conditioning_ids: Vec::new(),
            key: BlobKey([0; 32]),
            notes: None,
        }
    }

    fn ids(passages: &[Passage]) -> Vec<&str> {
        passages
            .iter()
            .map(|passage| passage.chunk_id.as_str())
            .collect()
    }

    #[test]
    fn reading_order_keeps_documents_by_their_best_passage() {
        let by_score = vec![passage("b", 9, 1), passage("a", 5, 1), passage("b", 2, 1)];
        assert_eq!(ids(&in_reading_order(by_score)), ["b@2", "b@9", "a@5"]);
    }

    #[test]
    fn passages_are_kept_up_to_the_first_that_does_not_fit() {
        let passages = [passage("a", 0, 4), passage("a", 1, 8), passage("a", 2, 1)];
        assert_eq!(fitting(&passages, 10, 30), 3);
        assert_eq!(fitting(&passages, 10, 23), 3);
        assert_eq!(fitting(&passages, 10, 22), 2);
        // Lowest scores go first: the short last passage does not take the place of the second.
        assert_eq!(fitting(&passages, 10, 20), 1);
        assert_eq!(fitting(&passages, 10, 13), 0);
    }
}
