//! Chunk KV of one dataset, as ingest would make it, in memory.

use std::collections::HashSet;
use std::sync::Arc;

use ragweave_engine::ChunkKv;
use ragweave_retriever::{
    Embedder as _, Embedding, Filter, FlatIndex, LexicalEmbedder, RetrieverError,
};

use crate::dataset::Dataset;
use crate::query::fitting;
use crate::shelf::Shelf;
use crate::subject::Subject;

/// Makes chunk KV, once for each chunk.
pub(crate) struct Library<'a> {
    subject: &'a Subject,
    kept: Shelf,
    similar: Option<Similar>,
}

impl<'a> Library<'a> {
    /// With `neighbours` above 0, each chunk's KV is made after so many similar chunks of the
    /// dataset (FusionRAG, arXiv 2601.12904).
    pub(crate) fn new(
        subject: &'a Subject,
        dataset: &Dataset,
        neighbours: usize,
    ) -> anyhow::Result<Self> {
        let similar = (neighbours > 0).then(|| Similar::new(subject, dataset, neighbours));
        Ok(Self {
            subject,
            kept: Shelf::default(),
            similar: similar.transpose()?,
        })
    }

    /// Whether chunks are made after the prefix alone.
    pub(crate) fn is_alone(&self) -> bool {
        self.similar.is_none()
    }

    pub(crate) async fn kv(&mut self, text: &str, ids: &[u32]) -> anyhow::Result<Arc<ChunkKv>> {
        let prefix = self.subject.prompt.conditioning_prefix();
        let neighbours = self.neighbours(text, ids)?;
        let conditioning: Vec<u32> = prefix.iter().chain(&neighbours).copied().collect();
        let key = self.subject.model().identity.chunk_key(&conditioning, ids);
        if let Some(kv) = self.kept.get(&key) {
            return Ok(kv);
        }
        let engine = &self.subject.engine;
        let kv = engine.chunk_kv_among(prefix, neighbours, ids.to_vec());
        Ok(self.kept.keep(key, kv.await?))
    }

    /// The ids of similar chunks, the most similar last, next to the chunk; as many as fit the model.
    fn neighbours(&self, text: &str, ids: &[u32]) -> anyhow::Result<Vec<u32>> {
        let Some(similar) = &self.similar else {
            return Ok(Vec::new());
        };
        let used = self.subject.prompt.conditioning_prefix().len() + ids.len() + 1;
        let room = self.subject.model().max_model_len.saturating_sub(used);
        let similar = similar.to(text)?;
        let neighbours: Vec<_> = fitting(similar, room, |ids| ids.len()).collect();
        Ok(neighbours.into_iter().rev().flatten().copied().collect())
    }
}

/// The chunks of a dataset, to be searched for similar ones.
struct Similar {
    embedder: LexicalEmbedder,
    index: FlatIndex,
    /// Text and ids of each chunk; its place is its id in the index.
    chunks: Vec<(String, Vec<u32>)>,
    n: usize,
}

impl Similar {
    fn new(subject: &Subject, dataset: &Dataset, n: usize) -> anyhow::Result<Self> {
        let embedder = LexicalEmbedder::new();
        let mut index = FlatIndex::new();
        let mut chunks: Vec<(String, Vec<u32>)> = Vec::new();
        let mut seen = HashSet::new();
        for document in dataset.examples.iter().flat_map(|one| &one.documents) {
            for (text, ids) in subject.chunks(document)? {
                if !seen.insert(text.to_owned()) {
                    continue;
                }
                let id = chunks.len().to_string();
                if let Some(embedding) = embed(&embedder, text)? {
                    index.insert(&id, &id, &Default::default(), embedding)?;
                }
                chunks.push((text.to_owned(), ids));
            }
        }
        Ok(Self {
            embedder,
            index,
            chunks,
            n,
        })
    }

    /// Ids of the chunks most similar to a text, itself left out; the most similar first.
    fn to(&self, text: &str) -> anyhow::Result<Vec<&Vec<u32>>> {
        let Some(embedding) = embed(&self.embedder, text)? else {
            return Ok(Vec::new());
        };
        let filter = Filter::default();
        let found = self.index.search(&embedding, self.n + 1, &filter)?;
        let others = found.iter().filter_map(|scored| {
            let (other, ids) = self.chunks.get(scored.chunk_id.parse::<usize>().ok()?)?;
            (other != text).then_some(ids)
        });
        Ok(others.take(self.n).collect())
    }
}

/// `None` of a text without words.
fn embed(embedder: &LexicalEmbedder, text: &str) -> Result<Option<Embedding>, RetrieverError> {
    match embedder.embed_document(text) {
        Ok(embedding) => Ok(Some(embedding)),
        Err(RetrieverError::BlankText) => Ok(None),
        Err(error) => Err(error),
    }
}
