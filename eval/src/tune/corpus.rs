//! Prompts over the chunks and the stored KV of a data directory.

use std::sync::Arc;

use ragweave_engine::{ChunkKv, EngineHandle, Mode, SamplingParams};
use ragweave_server::components::Components;
use ragweave_server::pipeline::{Passage, Query};
use ragweave_store::BlobReader;

use super::ask::Ask;
use super::source::{self, Chunk, Place};
use crate::examiner::Prepared;
use crate::query::{Asker, fitting};
use crate::shelf::Shelf;

pub(super) struct Corpus<'a> {
    asker: Asker<'a>,
    max_tokens: usize,
}

impl<'a> Corpus<'a> {
    /// Must be called within a tokio runtime, as [`Asker::new`].
    pub(super) fn new(components: &'a Components, max_tokens: usize) -> Self {
        Self {
            asker: Asker::new(components, SamplingParams::greedy(max_tokens)),
            max_tokens,
        }
    }

    pub(super) fn engine(&self) -> &EngineHandle {
        &self.asker.components.engine
    }

    /// Retrieves, lays out and reads KV, as serving does; chunks at the end that do not fit the
    /// model are left out.
    pub(super) async fn prepare(&self, ask: &Ask, kept: &mut Shelf) -> anyhow::Result<Prepared> {
        let mut segments = self
            .asker
            .components
            .prompt
            .segments(None, &[], &ask.question)?;
        let passages = self.fitting(ask).await?;
        let first_is_exact = self.is_exact(passages.first());
        let mut kvs = Vec::new();
        for passage in passages {
            kvs.push(self.kv(&passage, kept).await?);
            segments.chunks.push(passage.token_ids);
        }
        Ok(Prepared {
            segments,
            kvs,
            first_is_exact,
            max_tokens: self.max_tokens,
        })
    }

    /// Where the chunk that answers a question is in its prompt. Where not even the first chunk is exact, nothing
    /// is: then all places are alike.
    pub(super) async fn place(&self, ask: &Ask) -> anyhow::Result<Place> {
        let passages = self.fitting(ask).await?;
        let chunks = passages.iter().map(|passage| Chunk {
            id: &passage.chunk_id,
            text: &passage.text,
        });
        let chunks: Vec<Chunk<'_>> = chunks.collect();
        Ok(match source::place(ask, &chunks) {
            Place::Alone | Place::First if !self.is_exact(passages.first()) => Place::Later,
            place => place,
        })
    }

    /// The passages of a question, before any is left out.
    pub(super) async fn found(&self, ask: &Ask) -> anyhow::Result<Vec<Passage>> {
        Ok(self.asker.pipeline.retrieve(self.query(ask)).await?)
    }

    /// Tokens that the chunks of a question's prompt may have together.
    pub(super) fn room(&self, ask: &Ask) -> anyhow::Result<usize> {
        let bare = self
            .asker
            .components
            .prompt
            .segments(None, &[], &ask.question)?;
        let limit = self.engine().model().max_model_len;
        Ok(limit.saturating_sub(bare.n_tokens() + self.max_tokens))
    }

    async fn fitting(&self, ask: &Ask) -> anyhow::Result<Vec<Passage>> {
        let (room, found) = (self.room(ask)?, self.found(ask).await?);
        Ok(fitting(found, room, |passage| passage.token_ids.len()).collect())
    }

    /// Whether a chunk that comes first has the KV of full prefill.
    fn is_exact(&self, first: Option<&Passage>) -> bool {
        let is_exact_dtype = self.engine().model().identity.is_exact_dtype();
        is_exact_dtype && first.is_none_or(|passage| passage.conditioning_ids.is_empty())
    }

    fn query(&self, ask: &Ask) -> Query {
        match ask.context_chunks.as_slice() {
            [] => self.asker.searched(&ask.question),
            ids => self
                .asker
                .over_chunks(&ask.question, ids.to_vec(), Mode::Full),
        }
    }

    /// Stored KV, or, where it is missing, what ingest would have stored.
    async fn kv(&self, passage: &Passage, kept: &mut Shelf) -> anyhow::Result<Arc<ChunkKv>> {
        if let Some(kv) = kept.get(&passage.key.0) {
            return Ok(kv);
        }
        let store = &self.asker.components.store;
        let reader = store.open_blob(&passage.key, &passage.token_ids)?;
        let kv = match reader.map(|reader| read(&reader, passage)).transpose()? {
            Some(kv) => kv,
            None => {
                let prefix = self.asker.components.prompt.conditioning_prefix();
                let (neighbours, ids) = (&passage.conditioning_ids, &passage.token_ids);
                let engine = self.engine();
                engine
                    .chunk_kv_among(prefix, neighbours.clone(), ids.clone())
                    .await?
            }
        };
        Ok(kept.keep(passage.key.0, kv))
    }
}

fn read(reader: &BlobReader, passage: &Passage) -> anyhow::Result<ChunkKv> {
    let geometry = reader.geometry();
    let mut layers = Vec::new();
    for layer in 0..geometry.n_layers as usize {
        let mut k = vec![0; geometry.k_block_bytes as usize];
        let mut v = vec![0; geometry.v_block_bytes as usize];
        reader.read_layer(layer, &mut k, &mut v)?;
        layers.push((k, v));
    }
    let notes = passage.notes.as_ref();
    Ok(ChunkKv {
        token_ids: passage.token_ids.clone(),
        layers,
        anchors: notes.map_or_else(Vec::new, |notes| notes.anchors.clone()),
    })
}
