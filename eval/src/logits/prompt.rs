//! A prompt given in token ids: which of its chunks are stored, and after which ids their KV was made.

use std::path::Path;

use anyhow::{Context as _, bail};
use ragweave_engine::{ChunkState, FusionPlan, Mode, ModelInfo, PromptSegments};
use serde::Deserialize;

use super::flags::FusionArgs;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    prefix: Vec<u32>,
    chunks: Vec<Vec<u32>>,
    question: Vec<u32>,
}

pub(super) struct Prompt {
    segments: PromptSegments,
    misses: Vec<usize>,
    /// Ids the chunks' KV is computed after, where not the prompt's prefix.
    other_prefix: Option<Vec<u32>>,
    mode: Mode,
}

/// Reads a plan file. An error names the file, line and column.
pub(super) fn read_segments(path: &Path) -> anyhow::Result<PromptSegments> {
    let text = fs_err::read_to_string(path).context("read --plan")?;
    let plan: PlanFile =
        serde_json::from_str(&text).with_context(|| format!("--plan {}", path.display()))?;
    Ok(PromptSegments {
        prefix: plan.prefix,
        chunks: plan.chunks,
        question: plan.question,
    })
}

impl Prompt {
    /// A missed chunk that the plan does not have is an error.
    pub(super) fn new(segments: PromptSegments, fusion: &FusionArgs) -> anyhow::Result<Self> {
        let n_chunks = segments.chunks.len();
        if let Some(chunk) = fusion.misses.iter().find(|&&chunk| chunk >= n_chunks) {
            let known = match n_chunks {
                0 => "no chunks".to_owned(),
                n => format!("chunks 0 to {}", n - 1),
            };
            bail!("--misses names chunk {chunk}, but the plan has {known}");
        }
        Ok(Self {
            segments,
            misses: fusion.misses.clone(),
            other_prefix: fusion.other_prefix.clone(),
            mode: fusion.mode(),
        })
    }

    pub(super) fn chunks(&self) -> &[Vec<u32>] {
        &self.segments.chunks
    }

    pub(super) fn is_missed(&self, chunk: usize) -> bool {
        self.misses.contains(&chunk)
    }

    /// The ids every chunk's KV is computed after.
    pub(super) fn conditioning(&self) -> &[u32] {
        self.other_prefix.as_ref().unwrap_or(&self.segments.prefix)
    }

    /// The engine's plan. Only the first chunk can be exact: it alone comes right after a prefix.
    pub(super) fn plan(&self, model: &ModelInfo) -> anyhow::Result<FusionPlan> {
        let follows_prefix = self.conditioning() == self.segments.prefix;
        let exact = follows_prefix && model.identity.is_exact_dtype();
        let state = |chunk| match self.is_missed(chunk) {
            true => ChunkState::Miss,
            false => ChunkState::Hit {
                exact: exact && chunk == 0,
            },
        };
        let states = (0..self.chunks().len()).map(state).collect();
        let (segments, mode) = (self.segments.clone(), self.mode.clone());
        Ok(FusionPlan::new(segments, states, mode, model)?)
    }
}
