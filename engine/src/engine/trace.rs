//! Methods for evaluation: logits along a given answer, and how far stored KV is from a full prefill.

use super::{Engine, Sequence};
use crate::error::EngineError;
use crate::fusion::{
    FuseError, FuseReport, FusionPlan, LayerView, StopCheck, shared, true_deviation,
};
use crate::kernel::FusionBackend;
use crate::kv::{LayerCache, LayerSource};

/// Rows whose logits are on the device at once: a vocabulary of 256k entries makes each 1 MB.
const LOGIT_ROWS: usize = 64;

/// A prompt and the answer to compute logits along.
pub struct TraceRequest {
    pub plan: FusionPlan,
    /// One per chunk; `None` for a miss.
    pub sources: Vec<Option<Box<dyn LayerSource>>>,
    /// The token ids of the answer, whatever the logits say.
    pub forced: Vec<u32>,
}

/// What a mode computes along a given answer.
#[derive(Debug, Clone)]
pub struct Trace {
    /// After the prompt and after each forced token: `[1 + forced][vocab_size]`.
    pub logits: Vec<Vec<f32>>,
    /// Per layer, the output of attention at the prompt's last token, before its projection:
    /// `[n_layers][heads * head_dim]`.
    pub attention_output: Vec<Vec<f32>>,
    pub report: FuseReport,
}

/// Stored KV against that of a real full prefill of the same prompt.
#[derive(Debug, Clone)]
pub struct DeviationMap {
    /// Prompt positions of the stored rows that are not exact, ascending.
    pub rows: Vec<usize>,
    /// Per layer and row, squared L2 distance of K plus that of V, each over the layer's mean
    /// squared norm: `[n_layers][rows]`.
    pub layers: Vec<Vec<f32>>,
}

impl<B: FusionBackend> Engine<B> {
    /// Logits along a given answer, for comparing modes on the same tokens.
    ///
    /// # Errors
    /// As [`Engine::plan_logits`]; an answer that is too long, or holds ids outside the vocabulary.
    pub(crate) fn trace(
        &mut self,
        request: TraceRequest,
        stop: StopCheck<'_>,
    ) -> Result<Trace, EngineError> {
        let TraceRequest {
            plan,
            sources,
            forced,
        } = request;
        let capacity = plan.n_tokens() + forced.len();
        self.check_forced(&forced, capacity)?;
        let mut attention_output = Vec::new();
        let mut observe = |view: &LayerView<'_, B>, cache: &LayerCache<B>| {
            attention_output.truncate(view.step.layer_idx); // a replanned prompt starts again
            attention_output.push(view.last_attended(cache));
        };
        let loader = self.open(&plan, shared(sources));
        let mut sequence = self.fuse_observed(plan, loader, capacity, stop, &mut observe)?;
        let logits = self.follow(&mut sequence, &forced, stop);
        let (_, report) = self.end(sequence);
        Ok(Trace {
            logits: logits?,
            attention_output,
            report,
        })
    }

    /// Logits after the prompt and after each of the forced tokens, which run as the rows of one pass:
    /// `[1 + forced][vocab_size]`.
    fn follow(
        &mut self,
        sequence: &mut Sequence<B>,
        forced: &[u32],
        stop: StopCheck<'_>,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let mut logits = vec![sequence.logits.clone()];
        let n_forced = forced.len();
        if n_forced == 0 {
            return Ok(logits);
        }
        let hidden = self.extend(sequence, forced, stop)?; // [forced, hidden_size]
        sequence.n_tokens += n_forced;
        for start in (0..n_forced).step_by(LOGIT_ROWS) {
            let n_rows = LOGIT_ROWS.min(n_forced - start);
            let tile = hidden.clone().map(|x| x.narrow(0, start, n_rows));
            let rows = self.read_logits(tile)?; // [rows * vocab_size]
            let rows = rows.chunks_exact(self.info.config.vocab_size);
            logits.extend(rows.map(<[f32]>::to_vec));
        }
        Ok(logits)
    }

    fn check_forced(&self, forced: &[u32], tokens: usize) -> Result<(), EngineError> {
        let (vocab, limit) = (self.info.config.vocab_size, self.info.max_model_len);
        if let Some(id) = forced.iter().find(|&&id| id as usize >= vocab) {
            return Err(EngineError::InvalidRequest {
                field: "forced",
                message: format!("holds id {id}, which is outside the vocabulary of {vocab}"),
            });
        }
        match tokens > limit {
            true => Err(EngineError::PromptTooLong { tokens, limit }),
            false => Ok(()),
        }
    }

    /// How far the stored KV of a plan's chunks is from a real full prefill.
    ///
    /// # Errors
    /// `Unavailable` if stored KV cannot be read; since this measures stored KV, it is not computed instead.
    pub(crate) fn deviation(
        &mut self,
        plan: &FusionPlan,
        sources: Vec<Option<Box<dyn LayerSource>>>,
        stop: StopCheck<'_>,
    ) -> Result<DeviationMap, EngineError> {
        let loader = self.open(plan, shared(sources));
        match true_deviation(&mut self.context(), plan, loader, stop) {
            Ok((rows, layers)) => Ok(DeviationMap { rows, layers }),
            Err(FuseError::Stopped(error)) => Err(error),
            Err(FuseError::BadBlock { block, .. }) => Err(EngineError::Unavailable {
                message: format!("stored KV of chunk {}: {}", block.chunk, block.error),
            }),
        }
    }
}
