//! One prompt under one mode: the answer, and how far the mode is from full prefill on the same
//! tokens and the same stored KV.

use std::sync::Arc;

use ragweave_engine::{
    ChunkKv, ChunkState, DeviationMap, EngineHandle, FuseReport, FuseRequest, FusionPlan,
    LayerSource, MemorySource, Mode, PromptSegments, SamplingParams, TokenEvent, Trace,
    TraceRequest,
};

use crate::metric::{agrees_on_top1, kl_divergence, mean, ms, relative_l2, share};
use crate::mode_spec::ModeSpec;

/// One per chunk; `None` if the mode reads no stored KV.
type Sources = Vec<Option<Box<dyn LayerSource>>>;

/// Longest part of an answer along which modes are compared token by token.
const MAX_FORCED: usize = 32;

/// Asks the model of an engine.
pub(crate) struct Examiner<'a>(pub(crate) &'a EngineHandle);

/// A prompt in token ids, with the KV of its chunks.
pub(crate) struct Prepared {
    pub(crate) segments: PromptSegments,
    pub(crate) kvs: Vec<Arc<ChunkKv>>,
    /// Whether the first chunk's KV was computed after exactly this prefix, in the compute dtype.
    pub(crate) first_is_exact: bool,
    pub(crate) max_tokens: usize,
}

impl Prepared {
    /// Whether a policy has nothing to choose: all stored KV is exact.
    pub(crate) fn is_exact(&self) -> bool {
        self.kvs.is_empty() || (self.kvs.len() == 1 && self.first_is_exact)
    }
}

/// What full prefill gives for a prompt.
pub(crate) struct Reference {
    pub(crate) answer: String,
    /// The answer's first tokens, along which modes are compared.
    forced: Vec<u32>,
    /// Whether those are the whole answer.
    is_whole: bool,
    trace: Trace,
}

/// What a mode gives for a prompt.
pub(crate) struct Outcome {
    pub(crate) answer: String,
    /// Mean over the tokens of full prefill's answer, in nats.
    pub(crate) kl: f64,
    pub(crate) top1_agreement: f64,
    /// Per layer, of the prompt's last token: relative L2 distance.
    pub(crate) attention_deviation: Vec<Option<f64>>,
    pub(crate) report: FuseReport,
    /// From the plan to the first token's logits, in milliseconds.
    pub(crate) ttft_ms: f64,
}

impl Examiner<'_> {
    pub(crate) async fn full(&self, prepared: &Prepared) -> anyhow::Result<Reference> {
        let (answer, tokens) = self.generate(prepared, Mode::Full).await?;
        let forced: Vec<u32> = tokens.iter().copied().take(MAX_FORCED).collect();
        let trace = self.trace(prepared, Mode::Full, &forced).await?;
        Ok(Reference {
            is_whole: forced.len() == tokens.len(),
            answer,
            forced,
            trace,
        })
    }

    /// Answers under a mode. `number` varies random rows from example to example.
    pub(crate) async fn examine(
        &self,
        prepared: &Prepared,
        spec: &ModeSpec,
        number: usize,
        reference: &Reference,
    ) -> anyhow::Result<Outcome> {
        let mode = spec.mode_for(number);
        let (full, forced) = (&reference.trace, &reference.forced);
        let trace = match mode {
            Mode::Full => full.clone(),
            _ => self.trace(prepared, mode.clone(), forced).await?,
        };
        let steps = || full.logits.iter().zip(&trace.logits);
        let agreed: Vec<bool> = steps()
            .map(|(full, fused)| agrees_on_top1(full, fused))
            .collect();
        // Greedy decoding that agrees at every step, including the last, gives the same answer.
        let answer = match reference.is_whole && agreed.iter().all(|&agrees| agrees) {
            true => reference.answer.clone(),
            false => self.generate(prepared, mode).await?.0,
        };
        let kls: Vec<f64> = steps()
            .map(|(full, fused)| kl_divergence(full, fused))
            .collect();
        let outputs = full.attention_output.iter().zip(&trace.attention_output);
        let timings = &trace.report.timings;
        let ttft = timings.load_wait + timings.probe + timings.recompute + timings.first_decode;
        Ok(Outcome {
            answer,
            kl: mean(&kls).unwrap_or_default(),
            top1_agreement: share(agreed).unwrap_or_default(),
            attention_deviation: outputs
                .map(|(full, fused)| relative_l2(full, fused))
                .collect(),
            ttft_ms: ms(ttft),
            report: trace.report,
        })
    }

    /// How far the stored KV of a prompt is from that of full prefill.
    pub(crate) async fn deviation(&self, prepared: &Prepared) -> anyhow::Result<DeviationMap> {
        let (plan, sources) = self.plan(prepared, Mode::Reuse)?;
        Ok(self.0.deviation(plan, sources).await?)
    }

    /// Logits along the forced tokens, with the report of the prefill.
    pub(crate) async fn trace(
        &self,
        prepared: &Prepared,
        mode: Mode,
        forced: &[u32],
    ) -> anyhow::Result<Trace> {
        let (plan, sources) = self.plan(prepared, mode)?;
        let forced = forced.to_vec();
        let request = TraceRequest {
            plan,
            sources,
            forced,
        };
        Ok(self.0.trace(request).await?)
    }

    async fn generate(
        &self,
        prepared: &Prepared,
        mode: Mode,
    ) -> anyhow::Result<(String, Vec<u32>)> {
        let (plan, sources) = self.plan(prepared, mode)?;
        let request = FuseRequest {
            plan,
            sources,
            sampling: SamplingParams::greedy(prepared.max_tokens),
            deadline: None,
        };
        let mut generation = self.0.fuse(request).await?;
        let (mut answer, mut tokens) = (String::new(), Vec::new());
        while let Some(event) = generation.next().await {
            if let TokenEvent::Delta {
                text, token_ids, ..
            } = event?
            {
                answer.push_str(&text);
                tokens.extend(token_ids);
            }
        }
        Ok((answer, tokens))
    }

    fn plan(&self, prepared: &Prepared, mode: Mode) -> anyhow::Result<(FusionPlan, Sources)> {
        let reads_kv = mode.reads_kv();
        let state = |i| ChunkState::Hit {
            exact: i == 0 && prepared.first_is_exact,
        };
        let states = (0..prepared.kvs.len()).map(state).collect();
        let anchors: Vec<Vec<u32>> = prepared.kvs.iter().map(|kv| kv.anchors.clone()).collect();
        let model = self.0.model();
        let plan = FusionPlan::new(prepared.segments.clone(), states, mode, model)?;
        let source = |kv: &Arc<ChunkKv>| -> Option<Box<dyn LayerSource>> {
            reads_kv.then(|| Box::new(MemorySource(kv.clone())) as _)
        };
        Ok((
            plan.with_anchors(&anchors),
            prepared.kvs.iter().map(source).collect(),
        ))
    }
}
