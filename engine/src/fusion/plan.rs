//! The plan of one prompt: token ids, positions, and the state of each chunk. Free of side effects.

use std::ops::Range;
use std::sync::Arc;

use super::blend::Mode;
use crate::error::EngineError;
use crate::model_info::ModelInfo;

/// A prompt in token ids, cut once by the one segmentation function (design invariant 9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptSegments {
    pub prefix: Vec<u32>,
    pub chunks: Vec<Vec<u32>>,
    pub question: Vec<u32>,
}

impl PromptSegments {
    /// Prompt length in tokens.
    pub fn n_tokens(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(Vec::len).sum();
        self.prefix.len() + chunks + self.question.len()
    }

    /// All token ids: what full prefill computes.
    pub fn token_ids(&self) -> Vec<u32> {
        let parts = std::iter::once(&self.prefix)
            .chain(&self.chunks)
            .chain([&self.question]);
        parts.flatten().copied().collect()
    }
}

/// A chunk of `n` tokens has `ceil(n / 8)` anchors.
pub(crate) const TOKENS_PER_ANCHOR: usize = 8;

/// The state of a chunk's KV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkState {
    /// No usable KV: every row is computed.
    Miss,
    /// There is stored KV. It is `exact` if its conditioning ids are the prompt's ids before the chunk and
    /// its stored dtype is the compute dtype, so it equals what full prefill computes.
    Hit { exact: bool },
}

/// A checked plan. Ratio 0 has become `Reuse`, ratio 1 `Full`.
///
/// Plans of one prompt share what does not depend on the mode: a clone copies no token ids.
#[derive(Debug, Clone)]
pub struct FusionPlan {
    segments: Arc<PromptSegments>,
    chunks: Vec<ChunkState>,
    /// Per chunk, offsets of its anchor tokens, ascending; empty if none are known.
    anchors: Arc<[Vec<usize>]>,
    mode: Mode,
}

impl FusionPlan {
    /// Checks a request against the model.
    ///
    /// # Errors
    /// Names the field: an empty question or chunk, an id outside the vocabulary, a prompt that
    /// leaves no room for one answer token, a layer too deep for the model.
    pub fn new(
        segments: impl Into<Arc<PromptSegments>>,
        chunks: Vec<ChunkState>,
        mode: Mode,
        model: &ModelInfo,
    ) -> Result<Self, EngineError> {
        let segments = segments.into();
        check_segments(&segments, chunks.len(), model)?;
        let mode = mode.normalised(model.config.num_hidden_layers)?;
        Ok(Self {
            anchors: chunks.iter().map(|_| Vec::new()).collect(),
            segments,
            chunks,
            mode,
        })
    }

    /// Adds the anchor tokens that ingest found, as offsets in each chunk. For a chunk without any,
    /// evenly spaced tokens take their place. Offsets past a chunk's end are left out.
    pub fn with_anchors(self, anchors: &[Vec<u32>]) -> Self {
        let within = |(i, ids): (usize, &Vec<u32>)| {
            let offsets = anchors.get(i).into_iter().flatten();
            let offsets = offsets.map(|&offset| offset as usize);
            let mut offsets: Vec<usize> = offsets.filter(|&offset| offset < ids.len()).collect();
            offsets.sort_unstable();
            offsets.dedup();
            offsets
        };
        let chunks = self.segments.chunks.iter().enumerate();
        Self {
            anchors: chunks.map(within).collect(),
            ..self
        }
    }

    /// The mode as planned.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// Prompt length in tokens.
    pub fn n_tokens(&self) -> usize {
        self.segments.n_tokens()
    }

    pub(crate) fn segments(&self) -> &PromptSegments {
        &self.segments
    }

    /// What is known of each chunk.
    pub fn chunk_states(&self) -> &[ChunkState] {
        &self.chunks
    }

    /// The same prompt and the same stored KV in another mode.
    ///
    /// # Errors
    /// As [`FusionPlan::new`], of the mode.
    pub fn in_mode(&self, mode: Mode, model: &ModelInfo) -> Result<Self, EngineError> {
        let mode = mode.normalised(model.config.num_hidden_layers)?;
        Ok(Self {
            mode,
            ..self.clone()
        })
    }

    /// The same prompt with exact chunks loaded and all others computed in place: what full prefill
    /// computes, for less work.
    pub fn exact_only(&self) -> Self {
        let exact = |&state: &ChunkState| match state {
            ChunkState::Hit { exact: true } => state,
            ChunkState::Hit { exact: false } | ChunkState::Miss => ChunkState::Miss,
        };
        Self {
            chunks: self.chunks.iter().map(exact).collect(),
            mode: Mode::Reuse,
            ..self.clone()
        }
    }

    /// The same plan with one chunk missed: after its stored KV proved bad.
    pub(crate) fn with_miss(mut self, chunk: usize) -> Self {
        self.chunks[chunk] = ChunkState::Miss;
        self
    }

    /// The same prompt as a full prefill.
    pub(crate) fn into_full(mut self) -> Self {
        self.mode = Mode::Full;
        self
    }

    /// Positions of chunk `index`.
    pub fn chunk_rows(&self, index: usize) -> Range<usize> {
        let before: usize = self.segments.chunks[..index].iter().map(Vec::len).sum();
        let start = self.segments.prefix.len() + before;
        start..start + self.segments.chunks[index].len()
    }

    /// Positions of the anchors of chunk `index`, ascending.
    pub(crate) fn anchor_rows(&self, index: usize) -> Vec<usize> {
        let rows = self.chunk_rows(index);
        match self.anchors[index].as_slice() {
            [] => rows.step_by(TOKENS_PER_ANCHOR).collect(),
            offsets => offsets.iter().map(|offset| rows.start + offset).collect(),
        }
    }

    /// Positions of the question.
    pub(crate) fn question_rows(&self) -> Range<usize> {
        let n = self.n_tokens();
        n - self.segments.question.len()..n
    }

    /// Rows of the chunks in the given state, ascending.
    pub(crate) fn rows_of(&self, wanted: impl Fn(ChunkState) -> bool) -> Vec<usize> {
        let chunks = (0..self.chunks.len()).filter(|&i| wanted(self.chunks[i]));
        chunks.flat_map(|i| self.chunk_rows(i)).collect()
    }
}

fn check_segments(
    segments: &PromptSegments,
    n_states: usize,
    model: &ModelInfo,
) -> Result<(), EngineError> {
    let invalid = |field, message| Err(EngineError::InvalidRequest { field, message });
    if segments.chunks.len() != n_states {
        return invalid("chunks", "need one state each".into());
    }
    if segments.question.is_empty() {
        return invalid("question", "has no tokens; give a non-empty one".into());
    }
    if let Some(i) = segments.chunks.iter().position(Vec::is_empty) {
        return invalid("chunks", format!("hold an empty one at index {i}"));
    }
    let vocab = model.config.vocab_size;
    if let Some(id) = segments
        .token_ids()
        .into_iter()
        .find(|&id| id as usize >= vocab)
    {
        return invalid(
            "tokens",
            format!("hold id {id}, which is outside the vocabulary of {vocab}"),
        );
    }
    let (tokens, limit) = (segments.n_tokens(), model.max_model_len);
    if tokens >= limit {
        return Err(EngineError::PromptTooLong { tokens, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> FusionPlan {
        let segments = PromptSegments {
            prefix: vec![1],
            chunks: vec![vec![2; 20], vec![3; 4]],
            question: vec![4],
        };
        FusionPlan {
            segments: segments.into(),
            chunks: vec![ChunkState::Hit { exact: true }; 2],
            anchors: vec![Vec::new(); 2].into(),
            mode: Mode::Full,
        }
    }

    #[test]
    fn plans_of_one_prompt_share_its_token_ids() {
        let plan = plan();
        assert!(Arc::ptr_eq(&plan.segments, &plan.exact_only().segments));
        assert!(Arc::ptr_eq(&plan.anchors, &plan.exact_only().anchors));
    }

    #[test]
    fn anchors_are_kept_in_order_and_within_their_chunk() {
        let plan = plan();
        assert_eq!(plan.anchor_rows(0), [1, 9, 17]);
        let plan = plan.with_anchors(&[vec![7, 3, 7, 20]]);
        assert_eq!(plan.anchor_rows(0), [4, 8]);
        assert_eq!(plan.anchor_rows(1), [21]);
    }
}
