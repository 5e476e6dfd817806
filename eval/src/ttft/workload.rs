//! One prompt, run under several modes in turn.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use ragweave_engine::{
    ChunkState, EngineHandle, FuseReport, FuseRequest, FusionPlan, Generation, LayerSource, Mode,
    ModelInfo, PromptSegments, SamplingParams, TokenEvent,
};

use super::memory;
use super::stock::Stock;
use crate::experiment::rotated;

/// One source per chunk; `None` if nothing is stored.
pub(crate) type Sources = Vec<Option<Box<dyn LayerSource>>>;

pub(crate) struct Workload<'a> {
    pub(crate) engine: &'a EngineHandle,
    pub(crate) segments: PromptSegments,
    pub(crate) stock: Stock,
    pub(crate) decode_tokens: usize,
}

#[derive(Debug)]
pub(crate) struct Sample {
    /// From before the stored KV is opened to the first token sampled.
    pub(crate) ttft: Duration,
    pub(crate) report: FuseReport,
    /// Of the tokens after the first; `None` if there is only one.
    pub(crate) decode_tokens_per_s: Option<f64>,
    /// Bytes that the whole process held at most during the run, the model among them.
    pub(crate) peak_memory: Option<u64>,
}

/// The plan of a mode with every chunk stored after the prompt's own prefix.
pub(crate) fn plan(
    segments: &PromptSegments,
    mode: &Mode,
    model: &ModelInfo,
) -> anyhow::Result<FusionPlan> {
    let exact_dtype = model.identity.is_exact_dtype();
    let state = |chunk| ChunkState::Hit {
        exact: exact_dtype && chunk == 0,
    };
    let states = (0..segments.chunks.len()).map(state).collect();
    let plan = FusionPlan::new(segments.clone(), states, mode.clone(), model)?;
    Ok(plan)
}

impl<'a> Workload<'a> {
    /// The first `n_chunks` chunks of a prompt, one token each run.
    pub(crate) fn new(
        engine: &'a EngineHandle,
        longest: &PromptSegments,
        stock: &Stock,
        n_chunks: usize,
    ) -> Self {
        let mut segments = longest.clone();
        segments.chunks.truncate(n_chunks);
        Self {
            engine,
            segments,
            stock: stock.first(n_chunks),
            decode_tokens: 1,
        }
    }

    /// Runs every mode once, in the order of this round. One sample per mode, in the modes' order.
    pub(crate) async fn round(
        &self,
        modes: &[Mode],
        round: usize,
        done: impl Fn(),
    ) -> anyhow::Result<Vec<Sample>> {
        let mut samples: Vec<Option<Sample>> = modes.iter().map(|_| None).collect();
        for index in rotated(modes.len(), round) {
            samples[index] = Some(self.once(&modes[index]).await?);
            done();
        }
        Ok(samples.into_iter().flatten().collect())
    }

    pub(crate) async fn once(&self, mode: &Mode) -> anyhow::Result<Sample> {
        self.stock.settle()?;
        memory::forget_peak();
        let start = Instant::now();
        let plan = plan(&self.segments, mode, self.engine.model())?;
        let sources = match plan.mode() {
            Mode::Full => self.no_sources(),
            Mode::Reuse | Mode::Blend(_) => self.stock.sources()?,
        };
        self.first_token(start, plan, sources).await
    }

    /// No chunk has stored KV.
    pub(crate) fn no_sources(&self) -> Sources {
        self.segments.chunks.iter().map(|_| None).collect()
    }

    /// Runs a plan; `start` is when the time to first token began. KV that the engine had to compute
    /// instead of loading it is an error: such a time is not that of the mode.
    pub(crate) async fn first_token(
        &self,
        start: Instant,
        plan: FusionPlan,
        sources: Sources,
    ) -> anyhow::Result<Sample> {
        let sampling = SamplingParams {
            ignore_eos: true,
            ..SamplingParams::greedy(self.decode_tokens)
        };
        let request = FuseRequest {
            plan,
            sources,
            sampling,
            deadline: None,
        };
        let mut generation = self.engine.fuse(request).await?;
        ensure!(
            generation.report.replans == 0,
            "stored KV could not be read; see the log"
        );
        expect_delta(&mut generation).await?;
        let ttft = start.elapsed();
        let decode_tokens_per_s = decode_rate(&mut generation).await?;
        Ok(Sample {
            ttft,
            report: generation.report,
            decode_tokens_per_s,
            peak_memory: memory::peak(),
        })
    }
}

async fn expect_delta(generation: &mut Generation) -> anyhow::Result<()> {
    let event = generation.next().await;
    match event.context("the engine stopped before the first token")?? {
        TokenEvent::Delta { .. } => Ok(()),
        TokenEvent::Finished(report) => bail!("no token was generated: {:?}", report.reason),
    }
}

/// Reads the answer to its end. Tokens per second after the first, whose logits are the prefill's.
async fn decode_rate(generation: &mut Generation) -> anyhow::Result<Option<f64>> {
    while let Some(event) = generation.next().await {
        if let TokenEvent::Finished(report) = event? {
            let steps = report.completion_tokens.saturating_sub(1);
            return Ok((steps > 0).then(|| steps as f64 / report.decode.as_secs_f64()));
        }
    }
    bail!("the engine stopped in the middle of an answer")
}
