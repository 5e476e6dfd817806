//! One example under one mode: the answer, and how far the mode is from full prefill on the very
//! same tokens.

use std::sync::Arc;

use anyhow::ensure;
use ragweave_engine::{
    ChunkKv, ChunkState, DeviationMap, FuseReport, FuseRequest, FusionPlan, LayerSource,
    MemorySource, Mode, PromptSegments, SamplingParams, TokenEvent, Trace, TraceRequest,
};

use super::library::Library;
use super::subject::Subject;
use crate::dataset::{Dataset, Example};
use crate::metric::{agrees_on_top1, kl_divergence, mean, ms, relative_l2};
use crate::mode_spec::ModeSpec;

/// Longest part of an answer along which modes are compared token by token.
const MAX_FORCED: usize = 32;

/// Asks one dataset.
pub(crate) struct Examiner<'a> {
    pub(crate) subject: &'a Subject,
    library: Library<'a>,
    instruction: Option<&'a str>,
}

/// An example in token ids, with the KV of its chunks.
pub(crate) struct Prepared {
    pub(crate) segments: PromptSegments,
    kvs: Vec<Arc<ChunkKv>>,
    first_is_exact: bool,
    /// Chunks at the end of the context that did not fit the model.
    pub(crate) n_dropped: usize,
}

/// What full prefill makes of an example.
pub(crate) struct Reference {
    pub(crate) answer: String,
    /// The answer's first tokens, along which modes are compared.
    forced: Vec<u32>,
    /// Whether those are the whole answer.
    is_whole: bool,
    trace: Trace,
}

/// What a mode makes of an example.
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

impl<'a> Examiner<'a> {
    /// # Errors
    /// Where the dataset's documents cannot be split or embedded.
    pub(crate) fn new(
        subject: &'a Subject,
        dataset: &'a Dataset,
        neighbours: usize,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            subject,
            library: Library::new(subject, dataset, neighbours)?,
            instruction: dataset.instruction.as_deref(),
        })
    }

    /// Lays an example out; chunks at its end that do not fit the model are dropped.
    pub(crate) async fn prepare(&mut self, example: &Example) -> anyhow::Result<Prepared> {
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
        let (mut kvs, mut n_dropped) = (Vec::new(), 0);
        for document in &example.documents {
            for (text, ids) in self.subject.chunks(document)? {
                if n_dropped > 0 || ids.len() > room {
                    n_dropped += 1;
                    continue;
                }
                room -= ids.len();
                kvs.push(self.library.kv(text, &ids).await?);
                segments.chunks.push(ids);
            }
        }
        let identity = &self.subject.model().identity;
        Ok(Prepared {
            segments,
            kvs,
            first_is_exact: self.library.is_alone() && identity.is_exact_dtype(),
            n_dropped,
        })
    }

    /// Answers by full prefill.
    pub(crate) async fn full(
        &self,
        prepared: &Prepared,
        example: &Example,
    ) -> anyhow::Result<Reference> {
        let (answer, tokens) = self.generate(prepared, example, Mode::Full).await?;
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
        example: &Example,
        spec: &ModeSpec,
        number: usize,
        reference: &Reference,
    ) -> anyhow::Result<Outcome> {
        let mode = spec.mode_for(number);
        let trace = match mode {
            Mode::Full => reference.trace.clone(),
            _ => {
                self.trace(prepared, mode.clone(), &reference.forced)
                    .await?
            }
        };
        let steps: Vec<_> = reference.trace.logits.iter().zip(&trace.logits).collect();
        let agreed = steps
            .iter()
            .map(|(full, fused)| agrees_on_top1(full, fused));
        let agreed: Vec<bool> = agreed.collect();
        // Greedy decoding that agrees at every step, the one that ends it too, is the same answer.
        let answer = match reference.is_whole && agreed.iter().all(|&agrees| agrees) {
            true => reference.answer.clone(),
            false => self.generate(prepared, example, mode).await?.0,
        };
        let kls: Vec<f64> = steps
            .iter()
            .map(|(full, fused)| kl_divergence(full, fused))
            .collect();
        let agreed: Vec<f64> = agreed
            .into_iter()
            .map(|agrees| f64::from(u8::from(agrees)))
            .collect();
        let outputs = reference
            .trace
            .attention_output
            .iter()
            .zip(&trace.attention_output);
        let timings = &trace.report.timings;
        let ttft = timings.load_wait + timings.probe + timings.recompute + timings.first_decode;
        Ok(Outcome {
            answer,
            kl: mean(&kls).unwrap_or_default(),
            top1_agreement: mean(&agreed).unwrap_or_default(),
            attention_deviation: outputs
                .map(|(full, fused)| relative_l2(full, fused))
                .collect(),
            ttft_ms: ms(ttft),
            report: trace.report,
        })
    }

    /// How far the stored KV of an example is from that of full prefill.
    pub(crate) async fn deviation(&self, prepared: &Prepared) -> anyhow::Result<DeviationMap> {
        let (plan, sources) = self.plan(prepared, Mode::Reuse)?;
        Ok(self.subject.engine.deviation(plan, sources).await?)
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
        Ok(self.subject.engine.trace(request).await?)
    }

    async fn generate(
        &self,
        prepared: &Prepared,
        example: &Example,
        mode: Mode,
    ) -> anyhow::Result<(String, Vec<u32>)> {
        let (plan, sources) = self.plan(prepared, mode)?;
        let request = FuseRequest {
            plan,
            sources,
            sampling: SamplingParams::greedy(example.max_tokens),
            deadline: None,
        };
        let mut generation = self.subject.engine.fuse(request).await?;
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

    fn plan(
        &self,
        prepared: &Prepared,
        mode: Mode,
    ) -> anyhow::Result<(FusionPlan, Vec<Option<Box<dyn LayerSource>>>)> {
        let reads_kv = mode.reads_kv();
        let state = |i| ChunkState::Hit {
            exact: i == 0 && prepared.first_is_exact,
        };
        let states = (0..prepared.kvs.len()).map(state).collect();
        let anchors: Vec<Vec<u32>> = prepared.kvs.iter().map(|kv| kv.anchors.clone()).collect();
        let model = self.subject.model();
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
