//! The first step of planning: the passages a query asks for.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use ragweave_retriever::{Embedding, Filter};
use ragweave_store::StoredChunk;

use super::error::AnswerError;
use super::passage::Passage;
use super::planner::Planner;
use super::query::{Context, Query, Search};
use crate::notes::ChunkNotes;
use crate::search_index::Hit;

/// Number of attempts to search until every found chunk is still in the store; the last attempt leaves out those that
/// are not.
const MAX_SEARCHES: usize = 8;

/// Passages and how long it took to find them.
pub(super) struct Found {
    /// Best first, or in the order in which the query names them.
    pub(super) passages: Vec<Passage>,
    pub(super) times: FindTimes,
}

/// Stage times of the search.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FindTimes {
    pub(super) embed: Duration,
    pub(super) search: Duration,
}

impl Planner {
    /// The passages a query asks for: best first, or in the order in which it names them.
    pub(super) fn find(&self, query: &Query) -> Result<Found, AnswerError> {
        match &query.context {
            Context::Search(search) => self.search(&query.text, search),
            Context::Chunks(ids) => self.look_up(ids),
        }
    }

    fn look_up(&self, ids: &[String]) -> Result<Found, AnswerError> {
        let start = Instant::now();
        let passages = ids.iter().map(|id| self.named(id));
        let passages = passages.collect::<Result<_, _>>()?;
        let times = FindTimes {
            embed: Duration::ZERO,
            search: start.elapsed(),
        };
        Ok(Found { passages, times })
    }

    fn search(&self, question: &str, search: &Search) -> Result<Found, AnswerError> {
        let start = Instant::now();
        let embedding = self.components.embedder.embed_query(question)?;
        let embed = start.elapsed();
        let mut passages = Vec::new();
        for _ in 0..MAX_SEARCHES {
            let hits = self.hits(&embedding, search)?;
            let n_hits = hits.len();
            passages = self.load(hits, &search.filter)?;
            if passages.len() == n_hits {
                break;
            }
            // A document is being replaced or removed; the index will follow the store in a moment.
            std::thread::yield_now();
        }
        let times = FindTimes {
            embed,
            search: start.elapsed() - embed,
        };
        Ok(Found { passages, times })
    }

    fn hits(&self, embedding: &Embedding, search: &Search) -> Result<Vec<Hit>, AnswerError> {
        let index = self.components.index.read();
        let index = index.unwrap_or_else(PoisonError::into_inner);
        if index.is_empty() {
            return Err(AnswerError::CorpusEmpty);
        }
        Ok(index.search(embedding, search.top_k, &search.filter)?)
    }

    /// The chunks that were found, except those whose document version is no longer in the store: the filter might not
    /// match another version.
    fn load(&self, hits: Vec<Hit>, filter: &Filter) -> Result<Vec<Passage>, AnswerError> {
        let mut passages = Vec::with_capacity(hits.len());
        for Hit { scored, version } in hits {
            let chunk = self.components.store.chunk(&scored.chunk_id)?;
            let searched = chunk.filter(|chunk| {
                chunk.content_hash == version && filter.passes(&chunk.document_id, &chunk.metadata)
            });
            if let Some(chunk) = searched {
                passages.push(self.passage(chunk, Some(scored.score))?);
            }
        }
        Ok(passages)
    }

    fn named(&self, id: &str) -> Result<Passage, AnswerError> {
        let chunk = self.components.store.chunk(id)?;
        let chunk = chunk.ok_or_else(|| AnswerError::ChunkNotFound { id: id.to_owned() })?;
        self.passage(chunk, None)
    }

    fn passage(&self, chunk: StoredChunk, score: Option<f32>) -> Result<Passage, AnswerError> {
        let token_ids = self.components.chunk_ids(&chunk)?.into_owned();
        let conditioning_ids = self.components.conditioning_ids(&chunk).to_vec();
        // The notes of a foreign store are about other token ids.
        let notes = ChunkNotes::decode(&chunk.record.notes, token_ids.len())
            .filter(|_| !self.components.is_foreign);
        Ok(Passage {
            document_id: chunk.document_id,
            chunk_id: chunk.record.id,
            start_byte: chunk.record.start_byte,
            end_byte: chunk.record.end_byte,
            score,
            text: chunk.text,
            metadata: chunk.metadata,
            // Always computed, never taken from the record: a key of another model must not be looked up.
            key: self.components.blob_key(&conditioning_ids, &token_ids),
            token_ids,
            conditioning_ids,
            notes,
        })
    }
}
