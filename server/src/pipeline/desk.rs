//! Planning one prompt: find passages, lay them out, look up their KV. Blocking; the pipeline calls it off the
//! async threads.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use ragweave_engine::{
    ChunkState, EngineError, FuseRequest, FusionPlan, LayerSource, Mode, PromptSegments, Tier,
};
use ragweave_retriever::{Embedding, Filter};
use ragweave_store::{BlobKey, StoredChunk};

use super::backfill::Fill;
use super::{AnswerError, Context, Query, Search, room};
use crate::components::Components;
use crate::config::Order;
use crate::controller::{Choice, Controller, ModeChoice, Spare};
use crate::notes::ChunkNotes;
use crate::search_index::Hit;
use crate::sources::BlobSource;

/// Searches until one finds only what the store still holds; the last one leaves out what it does not.
const MAX_SEARCHES: usize = 8;

/// A chunk, where it comes from and what it is in this prompt format.
#[derive(Debug, Clone)]
pub struct Passage {
    pub document_id: String,
    pub chunk_id: String,
    /// The chunk is bytes `start_byte..end_byte` of its document's text.
    pub start_byte: u64,
    pub end_byte: u64,
    /// Higher is better; `None` for chunks named by id.
    pub score: Option<f32>,
    pub text: String,
    pub metadata: BTreeMap<String, String>,
    /// Wrapper included.
    pub token_ids: Vec<u32>,
    /// Ids that stand between the conditioning prefix and the chunk when its KV is computed; empty for a chunk alone.
    pub conditioning_ids: Vec<u32>,
    pub key: BlobKey,
    /// What ingest noted for the selection policies; `None` where it noted nothing that can be read.
    pub notes: Option<ChunkNotes>,
}

/// Passages and how long finding them took.
pub(super) struct Found {
    /// Best first, or in the order in which they were named.
    pub(super) passages: Vec<Passage>,
    times: FindTimes,
}

/// Stage times of the search.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FindTimes {
    pub(super) embed: Duration,
    pub(super) search: Duration,
}

/// The prompt: which passages it holds, in order, and its token ids.
#[derive(Clone)]
pub struct Layout {
    /// In prompt order; one per chunk of the segments.
    pub passages: Vec<Passage>,
    /// Found but too long for the context window, best first.
    pub dropped: Vec<Passage>,
    segments: PromptSegments,
    pub(super) times: FindTimes,
}

/// What the engine is asked. Its sources, one for every hit, have read no KV yet.
pub(super) struct Opened {
    pub(super) request: FuseRequest,
    /// Where each chunk's stored KV lies.
    pub(super) tiers: Vec<Option<Tier>>,
    /// A source that the chosen plan leaves unread.
    pub(super) spare: Option<Spare>,
    /// Why this plan, where the controller chose it.
    pub(super) choice: Option<Choice>,
    /// Chunks whose KV should be computed once there is time.
    pub(super) misses: Vec<Fill>,
    /// Time it took to look up and open what is stored.
    looking_up: Duration,
}

/// Everything that planning a prompt reads.
pub(super) struct Desk {
    pub(super) components: Components,
    /// Chooses plans; `None` where every query runs in the mode it asks for.
    pub(super) controller: Option<Arc<Controller>>,
}

impl Desk {
    pub(super) fn new(components: &Components, controller: Option<Arc<Controller>>) -> Self {
        Self {
            components: components.clone(),
            controller,
        }
    }

    /// The passages a query asks for: best first, or as named.
    pub(super) fn find(&self, query: &Query) -> Result<Found, AnswerError> {
        let start = Instant::now();
        match &query.context {
            Context::Search(search) => self.search(&query.text, search),
            Context::Chunks(ids) => {
                let passages = ids
                    .iter()
                    .map(|id| self.named(id))
                    .collect::<Result<_, _>>()?;
                let times = FindTimes {
                    embed: Duration::ZERO,
                    search: start.elapsed(),
                };
                Ok(Found { passages, times })
            }
        }
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
        let index = self
            .components
            .index
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if index.is_empty() {
            return Err(AnswerError::CorpusEmpty);
        }
        Ok(index.search(embedding, search.top_k, &search.filter)?)
    }

    /// The chunks that were found, as far as the store still holds what was searched: text of another version may not be
    /// what the filter lets through.
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
        // The ids of a foreign store are not those its notes speak of.
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
            // Made again, never taken from the record: a key of another model must not be looked up.
            key: self.components.blob_key(&conditioning_ids, &token_ids),
            token_ids,
            conditioning_ids,
            notes,
        })
    }

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
        // The engine wants room for one token more than the prompt even if none is asked for.
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
        let passages = self.in_prompt_order(query, passages);
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

    /// Reorders passages that are best first; named chunks stay as they are.
    pub(super) fn in_prompt_order(&self, query: &Query, passages: Vec<Passage>) -> Vec<Passage> {
        match &query.context {
            Context::Search(Search {
                order: Order::Document,
                ..
            }) => in_reading_order(passages),
            Context::Search(_) | Context::Chunks(_) => passages,
        }
    }

    /// Looks up the KV of each passage, and has the controller choose the plan if it is asked to.
    pub(super) fn open(&self, query: &Query, layout: &Layout) -> Result<Opened, AnswerError> {
        let (ModeChoice::Auto(auto), Some(controller)) = (&query.mode, &self.controller) else {
            return self.open_in(query.mode.widest(), query, layout);
        };
        // 1. A prompt that is prefilled faster than stored KV is opened and placed needs no look at the store.
        let hits = self.plan(query.mode.widest(), layout, self.all_hits(layout))?;
        let tiers: Vec<_> = layout.passages.iter().map(|p| self.tier_of(p)).collect();
        if let Some(choice) = controller.full_if_clear(&hits, &tiers, auto)? {
            let mut opened = self.open_in(Mode::Full, query, layout)?;
            opened.choice = Some(choice);
            opened.spare = Some(self.not_looked_up(layout));
            return Ok(opened);
        }
        // 2. What there is, and the best of it.
        let mut opened = self.open_in(query.mode.widest(), query, layout)?;
        controller.opened(layout.passages.len(), opened.looking_up);
        let choice = controller.choose(&opened.request.plan, &opened.tiers, auto)?;
        opened.request.plan = choice.plan.clone();
        opened.spare = Spare::take(&choice.plan, &mut opened.request.sources);
        opened.choice = Some(choice);
        Ok(opened)
    }

    /// Looks up the KV of each passage. What cannot be opened is a miss, never an error.
    fn open_in(&self, mode: Mode, query: &Query, layout: &Layout) -> Result<Opened, AnswerError> {
        let looks_up = mode.reads_kv();
        let (mut states, mut sources, mut misses) = (Vec::new(), Vec::new(), Vec::new());
        let mut looking_up = Duration::ZERO;
        for (position, passage) in layout.passages.iter().enumerate() {
            let start = Instant::now();
            let source = looks_up
                .then(|| open_source(&self.components, passage))
                .flatten();
            looking_up += start.elapsed();
            states.push(match source {
                Some(_) => self.hit(layout, position, passage),
                None => ChunkState::Miss,
            });
            if looks_up && source.is_none() {
                misses.push(Fill::of(passage));
            }
            sources.push(source);
        }
        let tier =
            |source: &Option<Box<dyn LayerSource>>| source.as_ref().map(|s| s.expected_tier());
        let tiers = sources.iter().map(tier).collect();
        let (sampling, deadline) = (query.sampling.clone(), query.deadline);
        let request = FuseRequest {
            plan: self.plan(mode, layout, states)?,
            sources,
            sampling,
            deadline,
        };
        Ok(Opened {
            request,
            tiers,
            spare: None,
            choice: None,
            misses,
            looking_up,
        })
    }

    fn plan(
        &self,
        mode: Mode,
        layout: &Layout,
        states: Vec<ChunkState>,
    ) -> Result<FusionPlan, AnswerError> {
        let model = self.components.engine.model();
        let plan = FusionPlan::new(layout.segments.clone(), states, mode, model)?;
        Ok(plan.with_anchors(&layout.anchors()))
    }

    /// The states if all KV is there.
    fn all_hits(&self, layout: &Layout) -> Vec<ChunkState> {
        let passages = layout.passages.iter().enumerate();
        passages
            .map(|(position, passage)| self.hit(layout, position, passage))
            .collect()
    }

    fn hit(&self, layout: &Layout, position: usize, passage: &Passage) -> ChunkState {
        ChunkState::Hit {
            exact: position == 0 && self.is_exact(layout, passage),
        }
    }

    /// Where the passage's KV would come from if it is stored, without a look at the store.
    fn tier_of(&self, passage: &Passage) -> Option<Tier> {
        let n_layers = self.components.engine.model().config.num_hidden_layers;
        let memory = &self.components.memory;
        Some(memory.expected_tier(&passage.key, n_layers))
    }

    /// The KV of the first passage that has some, to be opened when the answer is out.
    fn not_looked_up(&self, layout: &Layout) -> Spare {
        let (components, passages) = (self.components.clone(), layout.passages.clone());
        Spare::not_looked_up(move || {
            passages.iter().enumerate().find_map(|(n_before, passage)| {
                let source = open_source(&components, passage)?;
                Some((n_before + 1, passage.token_ids.len(), source))
            })
        })
    }

    /// Whether a chunk right behind this prompt's prefix has exactly the KV that was stored for it: it was computed
    /// behind the same ids, no neighbours among them, and stored as computed.
    fn is_exact(&self, layout: &Layout, passage: &Passage) -> bool {
        let identity = &self.components.engine.model().identity;
        identity.is_exact_dtype()
            && passage.conditioning_ids.is_empty()
            && layout.segments.prefix[..] == self.components.prompt.conditioning_prefix()[..]
    }
}

/// The passage's stored KV, behind the memory tier; `None` where there is none, or where the store fails, which is
/// logged.
fn open_source(components: &Components, passage: &Passage) -> Option<Box<dyn LayerSource>> {
    let (store, memory) = (&components.store, &components.memory);
    if components.unanswered.contains(&passage.key) {
        return None;
    }
    match store.open_blob(&passage.key, &passage.token_ids) {
        Ok(reader) => {
            let source = BlobSource::new(Arc::clone(store), reader?);
            let source = source.noted_in(Arc::clone(&components.unanswered));
            Some(Box::new(source.behind(Arc::clone(memory))))
        }
        Err(error) => {
            tracing::warn!(chunk = passage.chunk_id, %error, "lookup of stored KV failed");
            None
        }
    }
}

impl Layout {
    /// Per passage the anchor tokens that ingest noted; none where it noted nothing.
    fn anchors(&self) -> Vec<Vec<u32>> {
        let of = |passage: &Passage| passage.notes.as_ref().map(|notes| notes.anchors.clone());
        let passages = self.passages.iter();
        passages
            .map(|passage| of(passage).unwrap_or_default())
            .collect()
    }
}

/// How many passages, best first, fit behind `fixed` tokens.
fn fitting(passages: &[Passage], fixed: usize, limit: usize) -> usize {
    let mut total = fixed;
    let fits = passages.iter().take_while(|passage| {
        total += passage.token_ids.len();
        total <= limit
    });
    fits.count()
}

/// Reading order within each document, documents by their best passage.
fn in_reading_order(passages: Vec<Passage>) -> Vec<Passage> {
    let mut rank_of = HashMap::new();
    for passage in &passages {
        let next = rank_of.len();
        rank_of.entry(passage.document_id.clone()).or_insert(next);
    }
    let mut passages = passages;
    passages.sort_by_key(|passage| (rank_of[&passage.document_id], passage.start_byte));
    passages
}

#[cfg(test)]
mod tests {
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
        // Lowest scores go first: the short last passage does not jump over the second.
        assert_eq!(fitting(&passages, 10, 20), 1);
        assert_eq!(fitting(&passages, 10, 13), 0);
    }
}
