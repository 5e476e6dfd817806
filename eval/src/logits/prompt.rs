//! A prompt given in token ids: which of its chunks are stored, and behind which ids.

use std::path::Path;

use anyhow::{Context as _, bail};
use ragweave_engine::{ChunkState, FusionPlan, Mode, ModelInfo, PromptSegments};
use serde::Deserialize;

use super::flags::FusionArgs;

/// A plan file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    prefix: Vec<u32>,
    chunks: Vec<Vec<u32>>,
    question: Vec<u32>,
}

/// A prompt and how its KV is made.
pub(super) struct Prompt {
    segments: PromptSegments,
    misses: Vec<usize>,
    /// Ids the chunks' KV is computed behind, where not the prompt's prefix.
    other_prefix: Option<Vec<u32>>,
    mode: Mode,
}

/// Reads a plan file.
///
/// # Errors
/// Names the file, and the line and column of what is no plan.
pub(super) fn read_segments(path: &Path) -> anyhow::Result<PromptSegments> {
    let text = fs_err::read_to_string(path).context("read --plan")?;
    let plan: PlanFile =
        serde_json::from_str(&text).with_context(|| format!("--plan {}", path.display()))?;
    let PlanFile {
        prefix,
        chunks,
        question,
    } = plan;
    Ok(PromptSegments {
        prefix,
        chunks,
        question,
    })
}

impl Prompt {
    /// # Errors
    /// A missed chunk that the plan does not have.
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

    /// The ids every chunk's KV is computed behind.
    pub(super) fn conditioning(&self) -> &[u32] {
        self.other_prefix.as_ref().unwrap_or(&self.segments.prefix)
    }

    /// The engine's plan. Only the first chunk can be exact: it alone stands right behind a prefix.
    ///
    /// # Errors
    /// As [`FusionPlan::new`].
    pub(super) fn plan(&self, model: &ModelInfo) -> anyhow::Result<FusionPlan> {
        let is_behind_prefix = self.conditioning() == self.segments.prefix;
        let exact = is_behind_prefix && model.identity.is_exact_dtype();
        let state = |chunk| match self.is_missed(chunk) {
            true => ChunkState::Miss,
            false => ChunkState::Hit {
                exact: exact && chunk == 0,
            },
        };
        let states = (0..self.chunks().len()).map(state).collect();
        Ok(FusionPlan::new(
            self.segments.clone(),
            states,
            self.mode.clone(),
            model,
        )?)
    }
}
