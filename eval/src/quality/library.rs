//! Examples laid out as serving would, with the same segmentation and splitter, and their chunk KV, as ingest would make
//! it, in memory.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::ensure;
use ragweave_engine::ChunkKv;
use ragweave_retriever::{Embedder, Filter, VectorIndex};

use crate::dataset::{Dataset, Example};
use crate::examiner::Prepared;
use crate::query::fitting;
use crate::shelf::Shelf;
use crate::subject::Subject;

/// Lays out the examples of one dataset, and makes chunk KV, once for each chunk.
pub(super) struct Library<'a> {
    subject: &'a Subject,
    instruction: Option<&'a str>,
    kept: Shelf,
    similar: Option<Similar>,
}

impl<'a> Library<'a> {
    /// With `neighbours`, each chunk's KV is computed after similar chunks of the dataset (FusionRAG,
    /// arXiv 2601.12904).
    pub(super) fn new(
        subject: &'a Subject,
        dataset: &'a Dataset,
        neighbours: Option<&Neighbours>,
    ) -> anyhow::Result<Self> {
        let similar = neighbours.map(|neighbours| Similar::new(subject, dataset, neighbours));
        Ok(Self {
            subject,
            instruction: dataset.instruction.as_deref(),
            kept: Shelf::default(),
            similar: similar.transpose()?,
        })
    }

    /// Lays an example out; chunks at its end that do not fit the model are dropped and logged.
    pub(super) async fn prepare(&mut self, example: &Example) -> anyhow::Result<Prepared> {
        let question = match self.instruction {
            Some(instruction) => format!("{} {instruction}", example.question),
            None => example.question.clone(),
        };
        let mut segments = self.subject.prompt.segments(None, &[], &question)?;
        let limit = self.subject.model().max_model_len;
        let mut room = limit.saturating_sub(segments.n_tokens() + example.max_tokens);
        ensure!(
            room > 0,
            "question and answer alone are longer than the model's {limit} tokens"
        );
        let (mut kvs, mut dropped) = (Vec::new(), 0);
        for document in &example.documents {
            for (text, ids) in self.subject.chunks(document)? {
                if dropped > 0 || ids.len() > room {
                    dropped += 1;
                    continue;
                }
                room -= ids.len();
                kvs.push(self.kv(text, &ids).await?);
                segments.chunks.push(ids);
            }
        }
        if dropped > 0 {
            let id = &example.id;
            tracing::warn!(id, dropped, "chunks at the end do not fit the model");
        }
        let identity = &self.subject.model().identity;
        Ok(Prepared {
            segments,
            kvs,
            first_is_exact: self.similar.is_none() && identity.is_exact_dtype(),
            max_tokens: example.max_tokens,
        })
    }

    async fn kv(&mut self, text: &str, ids: &[u32]) -> anyhow::Result<Arc<ChunkKv>> {
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

/// How many neighbours each chunk has, and what finds them.
pub(super) struct Neighbours {
    pub(super) embedder: Arc<dyn Embedder>,
    pub(super) n: usize,
}

/// The chunks of a dataset, to be searched for similar ones.
struct Similar {
    embedder: Arc<dyn Embedder>,
    index: VectorIndex,
    /// Text and ids of each chunk; its place is its id in the index.
    chunks: Vec<(String, Vec<u32>)>,
    n: usize,
}

impl Similar {
    fn new(subject: &Subject, dataset: &Dataset, neighbours: &Neighbours) -> anyhow::Result<Self> {
        let embedder = Arc::clone(&neighbours.embedder);
        let mut index = VectorIndex::default();
        let mut chunks: Vec<(String, Vec<u32>)> = Vec::new();
        let mut seen = HashSet::new();
        for document in dataset.examples.iter().flat_map(|one| &one.documents) {
            for (text, ids) in subject.chunks(document)? {
                if !seen.insert(text.to_owned()) {
                    continue;
                }
                let id = chunks.len().to_string();
                if let Some(embedding) = embedder.embed_documents(&[text])?.pop().flatten() {
                    index.insert(&id, &id, &Default::default(), embedding)?;
                }
                chunks.push((text.to_owned(), ids));
            }
        }
        Ok(Self {
            embedder,
            index,
            chunks,
            n: neighbours.n,
        })
    }

    /// Ids of the chunks most similar to a text, itself left out; the most similar first.
    fn to(&self, text: &str) -> anyhow::Result<Vec<&Vec<u32>>> {
        let Some(embedding) = self.embedder.embed_documents(&[text])?.pop().flatten() else {
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
