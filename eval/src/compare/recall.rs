//! Whether retrieval finds what a question needs.

use std::collections::HashSet;

use anyhow::Context as _;
use ragweave_server::pipeline::{Context, Search};
use serde::Serialize;

use super::trial::Examiner;
use crate::dataset::Question;
use crate::metric::share;

/// Retrieval over the questions that name their gold chunks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Retrieval {
    pub(super) top_k: usize,
    /// Questions counted.
    pub(super) n: usize,
    /// Share whose gold chunks are all among the best `top_k`.
    pub(super) recall: Option<f64>,
}

/// Retrieves for every question that names gold chunks.
pub(super) async fn measure(
    examiner: &Examiner<'_>,
    questions: &[Question],
    top_k: usize,
) -> anyhow::Result<Retrieval> {
    let mut found_all = Vec::new();
    let with_gold = questions
        .iter()
        .filter(|question| !question.gold_chunks.is_empty());
    for question in with_gold {
        let mut query = examiner.query(question);
        if let Context::Search(search) = query.context {
            query.context = Context::Search(Search { top_k, ..search });
        }
        let passages = examiner.pipeline.retrieve(query).await;
        let passages = passages.with_context(|| format!("question {}", question.id))?;
        let found = passages.iter().map(|passage| passage.chunk_id.as_str());
        found_all.push(holds_all(found, &question.gold_chunks));
    }
    Ok(Retrieval {
        top_k,
        n: found_all.len(),
        recall: share(found_all),
    })
}

fn holds_all<'a>(found: impl Iterator<Item = &'a str>, gold: &[String]) -> bool {
    let found: HashSet<&str> = found.collect();
    gold.iter().all(|id| found.contains(id.as_str()))
}

#[cfg(test)]
mod tests {
    use super::holds_all;

    #[test]
    fn every_gold_chunk_must_be_found() {
        let gold = ["a#0".to_owned(), "b#1".to_owned()];
        assert!(holds_all(["b#1", "c#0", "a#0"].into_iter(), &gold));
        assert!(!holds_all(["a#0", "b#0"].into_iter(), &gold));
    }
}
