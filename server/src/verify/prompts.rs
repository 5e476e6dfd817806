//! Prompts to probe with: chunks computed alone after the conditioning prefix, and plans that use their KV or not.

use std::sync::Arc;

use ragweave_engine::{
    ChunkKv, ChunkState, DeviationMap, EngineError, EngineHandle, FuseRequest, FusionPlan,
    LayerSource, MemorySource, Mode, PromptSegments, SamplingParams, TokenEvent, Trace,
    TraceRequest,
};

use super::error::VerifyError;
use crate::prompt::PromptFormat;

/// Stands for the conditioning prefix of a model without a prompt format.
const PREFIX_TOKENS: usize = 8;
const QUESTION_TOKENS: usize = 8;
/// Tokens of the longest probed chunk, and the fewest that still show anything.
const CHUNK_TOKENS: usize = 48;
const MIN_CHUNK_TOKENS: usize = 4;
/// Chunks of full length that the widest probe holds.
const CHUNKS_AT_ONCE: usize = 4;

/// A chunk and, if the plan is to use it, its KV.
pub(super) struct Part {
    pub(super) ids: Vec<u32>,
    pub(super) stored: Stored,
}

/// The stored KV of a chunk, as a plan sees it.
#[derive(Clone)]
pub(super) enum Stored {
    Missing,
    /// Placed elsewhere than where its KV was computed.
    Moved(Arc<ChunkKv>),
    /// Placed right after the prefix that its KV was computed after.
    InPlace(Arc<ChunkKv>),
}

type Sources = Vec<Option<Box<dyn LayerSource>>>;

/// The engine with what all probes share.
pub(super) struct Bench<'a> {
    engine: &'a EngineHandle,
    prefix: Arc<[u32]>,
    /// Tokens of the longest chunk.
    pub(super) chunk_tokens: usize,
    /// Tokens that the chunks of one prompt may have together.
    pub(super) room: usize,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        engine: &'a EngineHandle,
        prompt: Option<&PromptFormat>,
    ) -> Result<Self, VerifyError> {
        let model = engine.model();
        let prefix = match prompt {
            Some(prompt) => prompt.conditioning_prefix(),
            None => tokens(1, PREFIX_TOKENS, model.config.vocab_size).into(),
        };
        let context = model.max_model_len;
        let room = context.saturating_sub(prefix.len() + QUESTION_TOKENS + 1);
        let chunk_tokens = CHUNK_TOKENS.min(room / CHUNKS_AT_ONCE);
        if chunk_tokens < MIN_CHUNK_TOKENS {
            return Err(VerifyError::ContextTooShort { context, room });
        }
        Ok(Self {
            engine,
            prefix,
            chunk_tokens,
            room,
        })
    }

    /// `n` generated tokens; the same for the same `seed`.
    pub(super) fn generated(&self, seed: u64, n: usize) -> Vec<u32> {
        tokens(seed, n, self.engine.model().config.vocab_size)
    }

    /// KV as ingest makes it.
    pub(super) async fn kv(&self, ids: &[u32]) -> Result<Arc<ChunkKv>, EngineError> {
        let kv = self.engine.chunk_kv(Arc::clone(&self.prefix), ids.to_vec());
        Ok(Arc::new(kv.await?))
    }

    /// A prompt of these chunks and a generated question.
    pub(super) fn prompt(&self, parts: &[Part]) -> PromptSegments {
        PromptSegments {
            prefix: self.prefix.to_vec(),
            chunks: parts.iter().map(|part| part.ids.clone()).collect(),
            question: self.generated(2, QUESTION_TOKENS),
        }
    }

    /// Logits and attention outputs after the prompt. Full prefill ignores what is stored.
    pub(super) async fn trace(
        &self,
        segments: &PromptSegments,
        stored: &[Stored],
        mode: Mode,
    ) -> Result<Trace, EngineError> {
        self.trace_along(segments, stored, mode, &[]).await
    }

    /// The same, and logits after each token of an answer: `[1 + answer][vocab]`.
    pub(super) async fn trace_along(
        &self,
        segments: &PromptSegments,
        stored: &[Stored],
        mode: Mode,
        answer: &[u32],
    ) -> Result<Trace, EngineError> {
        let (plan, sources) = self.plan(segments, stored, mode)?;
        let request = TraceRequest {
            plan,
            sources,
            forced: answer.to_vec(),
        };
        self.engine.trace(request).await
    }

    /// The first tokens of full prefill's answer, the most likely one each time; fewer if it ends early.
    pub(super) async fn answer(
        &self,
        segments: &PromptSegments,
        n_tokens: usize,
    ) -> Result<Vec<u32>, EngineError> {
        let missing = vec![Stored::Missing; segments.chunks.len()];
        let (plan, sources) = self.plan(segments, &missing, Mode::Full)?;
        let request = FuseRequest {
            plan,
            sources,
            sampling: SamplingParams::greedy(n_tokens),
            deadline: None,
        };
        let mut generation = self.engine.fuse(request).await?;
        let mut answer = Vec::new();
        while let Some(event) = generation.next().await {
            if let TokenEvent::Delta { token_ids, .. } = event? {
                answer.extend(token_ids);
            }
        }
        Ok(answer)
    }

    pub(super) fn n_layers(&self) -> usize {
        self.engine.model().config.num_hidden_layers
    }

    /// Stored KV against fresh KV at every layer.
    pub(super) async fn deviation(
        &self,
        segments: &PromptSegments,
        stored: &[Stored],
    ) -> Result<DeviationMap, EngineError> {
        let (plan, sources) = self.plan(segments, stored, Mode::Reuse)?;
        self.engine.deviation(plan, sources).await
    }

    fn plan(
        &self,
        segments: &PromptSegments,
        stored: &[Stored],
        mode: Mode,
    ) -> Result<(FusionPlan, Sources), EngineError> {
        let model = self.engine.model();
        let states = stored.iter().map(|stored| match stored {
            Stored::Missing => ChunkState::Miss,
            Stored::Moved(_) => ChunkState::Hit { exact: false },
            Stored::InPlace(_) => ChunkState::Hit {
                exact: model.identity.is_exact_dtype(),
            },
        });
        let anchors: Vec<Vec<u32>> = stored
            .iter()
            .map(|stored| stored.kv().map_or_else(Vec::new, |kv| kv.anchors.clone()))
            .collect();
        let plan = FusionPlan::new(segments.clone(), states.collect(), mode, model)?;
        let source = |stored: &Stored| {
            let kv = Arc::clone(stored.kv()?);
            Some(Box::new(MemorySource(kv)) as Box<dyn LayerSource>)
        };
        let sources = stored.iter().map(source).collect();
        Ok((plan.with_anchors(&anchors), sources))
    }
}

impl Stored {
    /// The same KV, placed right after the prefix that it was computed after.
    pub(super) fn in_place(self) -> Self {
        match self {
            Self::Missing => Self::Missing,
            Self::Moved(kv) | Self::InPlace(kv) => Self::InPlace(kv),
        }
    }

    fn kv(&self) -> Option<&Arc<ChunkKv>> {
        match self {
            Self::Missing => None,
            Self::Moved(kv) | Self::InPlace(kv) => Some(kv),
        }
    }
}

/// Token ids spread over the vocabulary: the high bits of Knuth's multiplicative generator.
fn tokens(seed: u64, n: usize, vocab: usize) -> Vec<u32> {
    let mut state = seed;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((state >> 33) % vocab as u64).unwrap_or_default()
    };
    std::iter::repeat_with(next).take(n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_tokens_are_of_the_vocabulary_and_differ_by_seed() {
        let [a, again, b] = [3, 3, 4].map(|seed| tokens(seed, 40, 50));
        assert_eq!(a, again);
        assert_ne!(a, b);
        assert!(a.iter().all(|&id| id < 50));
    }
}
