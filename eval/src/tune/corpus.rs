//! Prompts over the chunks and the stored KV of a data directory.

use std::sync::Arc;

use ragweave_engine::{ChunkKv, EngineHandle, Mode, SamplingParams};
use ragweave_server::components::Components;
use ragweave_server::pipeline::{Context, Passage, Pipeline, Query};
use ragweave_store::BlobReader;

use super::ask::Ask;
use crate::examiner::Prepared;
use crate::shelf::Shelf;

/// A data directory to be asked.
pub(super) struct Corpus<'a> {
    components: &'a Components,
    pipeline: Pipeline,
    max_tokens: usize,
}

impl<'a> Corpus<'a> {
    /// Must be called within a tokio runtime, as [`Pipeline::for_evaluation`].
    pub(super) fn new(components: &'a Components, max_tokens: usize) -> Self {
        Self {
            components,
            pipeline: Pipeline::for_evaluation(components),
            max_tokens,
        }
    }

    pub(super) fn engine(&self) -> &EngineHandle {
        &self.components.engine
    }

    /// Retrieves, lays out and reads KV, as serving does; chunks at the end that do not fit the
    /// model are left out.
    pub(super) async fn prepare(&self, ask: &Ask, kept: &mut Shelf) -> anyhow::Result<Prepared> {
        let passages = self.pipeline.retrieve(self.query(ask)).await?;
        let prompt = &self.components.prompt;
        let mut segments = prompt.segments(None, &[], &ask.question)?;
        let limit = self.engine().model().max_model_len;
        let mut room = limit.saturating_sub(segments.n_tokens() + self.max_tokens);
        let mut kvs = Vec::new();
        let mut first_is_exact = self.engine().model().identity.is_exact_dtype();
        for passage in passages {
            if passage.token_ids.len() > room {
                break;
            }
            room -= passage.token_ids.len();
            first_is_exact &= !kvs.is_empty() || passage.conditioning_ids.is_empty();
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

    fn query(&self, ask: &Ask) -> Query {
        let max_model_len = self.engine().model().max_model_len;
        let query = Query::new(&ask.question, &self.components.config, max_model_len);
        let context = match ask.context_chunks.as_slice() {
            [] => query.context.clone(),
            ids => Context::Chunks(ids.to_vec()),
        };
        Query {
            context,
            mode: Mode::Full.into(),
            sampling: SamplingParams::greedy(self.max_tokens),
            ..query
        }
    }

    /// Stored KV, or, where it is missing, what ingest would have stored.
    async fn kv(&self, passage: &Passage, kept: &mut Shelf) -> anyhow::Result<Arc<ChunkKv>> {
        if let Some(kv) = kept.get(&passage.key.0) {
            return Ok(kv);
        }
        let reader = self
            .components
            .store
            .open_blob(&passage.key, &passage.token_ids)?;
        let kv = match reader.map(|reader| read(&reader, passage)).transpose()? {
            Some(kv) => kv,
            None => {
                let prefix = self.components.prompt.conditioning_prefix();
                let (neighbours, ids) = (&passage.conditioning_ids, &passage.token_ids);
                let kv = self
                    .engine()
                    .chunk_kv_among(prefix, neighbours.clone(), ids.clone());
                kv.await?
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
