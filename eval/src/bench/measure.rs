//! Interleaved runs of one prompt under several modes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use ragweave_engine::{
    ChunkState, EngineHandle, FuseReport, FuseRequest, FusionPlan, Generation, LayerSource, Mode,
    ModelInfo, PromptSegments, SamplingParams, TokenEvent,
};

use super::memory;
use super::stock::Stock;
use crate::rounds::rotated;

/// One source per chunk; `None` where nothing is stored.
pub(crate) type Sources = Vec<Option<Box<dyn LayerSource>>>;

/// What every run does, whatever its mode.
pub(crate) struct Workload<'a> {
    pub(crate) engine: &'a EngineHandle,
    pub(crate) segments: PromptSegments,
    pub(crate) stock: Stock,
    pub(crate) decode_tokens: usize,
}

/// One measured run.
#[derive(Debug)]
pub(crate) struct Sample {
    /// From before the stored KV is opened to the first token sampled.
    pub(crate) ttft: Duration,
    pub(crate) report: FuseReport,
    /// Of the tokens after the first; `None` where there is only one.
    pub(crate) decode_tokens_per_s: Option<f64>,
    /// Bytes that the whole process held at most during the run, the model among them.
    pub(crate) peak_memory: Option<u64>,
}

/// Of all context tokens, the share that was computed again; `None` where none was loaded. Every chunk of these prompts
/// is stored, and the exact first one is loaded and never computed again: at a ratio of 0.15 and six chunks of one
/// length it is 0.125.
pub(crate) fn recomputed_share(report: &FuseReport) -> Option<f64> {
    let loaded = report.tokens_loaded;
    (loaded > 0).then(|| report.tokens_recomputed as f64 / loaded as f64)
}

/// The plan of a mode with every chunk stored behind the prompt's own prefix.
///
/// # Errors
/// As [`FusionPlan::new`].
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
    Ok(FusionPlan::new(
        segments.clone(),
        states,
        mode.clone(),
        model,
    )?)
}

impl Workload<'_> {
    /// Runs every mode once a round. The first round warms up and is not among the samples, of
    /// which there is one list per mode.
    ///
    /// # Errors
    /// Where the engine fails, or had to compute KV that should have been loaded.
    pub(crate) async fn run(
        &self,
        modes: &[Mode],
        rounds: usize,
        mut done: impl FnMut(),
    ) -> anyhow::Result<Vec<Vec<Sample>>> {
        let mut samples: Vec<Vec<Sample>> = modes.iter().map(|_| Vec::new()).collect();
        for round in 0..rounds {
            let measured = self.round(modes, round, &mut done).await?;
            if round > 0 {
                let lists = samples.iter_mut().zip(measured);
                lists.for_each(|(list, sample)| list.push(sample));
            }
        }
        Ok(samples)
    }

    /// Runs every mode once, in the order of this round. One sample per mode, in the modes' order.
    ///
    /// # Errors
    /// As [`Workload::run`].
    pub(crate) async fn round(
        &self,
        modes: &[Mode],
        round: usize,
        mut done: impl FnMut(),
    ) -> anyhow::Result<Vec<Sample>> {
        let mut samples: Vec<Option<Sample>> = modes.iter().map(|_| None).collect();
        for index in rotated(modes.len(), round) {
            samples[index] = Some(self.once(&modes[index]).await?);
            done();
        }
        Ok(samples.into_iter().flatten().collect())
    }

    /// Runs a mode once.
    ///
    /// # Errors
    /// As [`Workload::run`].
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

    /// Runs a plan; `start` is when the time to first token began.
    ///
    /// # Errors
    /// As [`Workload::run`].
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

/// Waits for the first token.
async fn expect_delta(generation: &mut Generation) -> anyhow::Result<()> {
    match generation
        .next()
        .await
        .context("the engine stopped before the first token")??
    {
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
