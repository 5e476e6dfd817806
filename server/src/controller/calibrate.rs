//! Measures the first rates of a machine: a few prefills of random ids of increasing size while no request waits, in
//! every mode that may be chosen, with KV shared the way the memory tier shares it.

use std::sync::Arc;

use ragweave_engine::{
    Blend, ChunkState, EngineError, EngineHandle, FuseRequest, FusionPlan, HostBuffer, LayerSource,
    MemorySource, Mode, PromptSegments, SamplingParams, SourceError, Tier,
};

use ragweave_store::BlobKey;

use super::Controller;
use crate::tier::MemoryTier;

const N_CHUNKS: usize = 2;
const QUESTION_TOKENS: usize = 16;
/// Tokens of each chunk. The first size always runs; a larger one only if its prefill is predicted to take at most this
/// time, since a request may have to wait for it.
const SIZES: [usize; 5] = [24, 96, 256, 512, 1024];
const LONGEST_S: f64 = 1.5;

impl Controller {
    /// Measures the first rates if none are known, while no request waits. A failure is only logged, because the rates
    /// can be learned from requests too.
    pub async fn calibrate(&self, engine: &EngineHandle, blend: &Blend) {
        if self.rates().n_learned() > 0 {
            return;
        }
        match calibrate(self, engine, blend).await {
            Ok(()) => tracing::info!(runs = self.rates().n_learned(), "measured this machine"),
            Err(error) => tracing::warn!(%error, "measuring this machine failed"),
        }
    }
}

/// Measures, and lets the controller learn from it.
///
/// # Errors
/// If the engine refuses or fails.
async fn calibrate(
    controller: &Controller,
    engine: &EngineHandle,
    blend: &Blend,
) -> Result<(), EngineError> {
    let modes = [Mode::Full, Mode::Reuse, Mode::Blend(blend.clone())];
    for (index, tokens) in SIZES.into_iter().enumerate() {
        let full = match plan(engine, &segments(engine, tokens), Mode::Full) {
            Ok(full) => full,
            Err(_) if index > 0 => break, // too long for the model
            Err(error) => return Err(error),
        };
        if index > 0 && controller.forecast(&full, &TIERS).seconds > LONGEST_S {
            break;
        }
        measure(controller, engine, &modes, tokens).await?;
    }
    Ok(())
}

const TIERS: [Option<Tier>; N_CHUNKS] = [Some(Tier::Memory); N_CHUNKS];

/// Runs a prompt in every mode, once to warm up and once to learn from.
async fn measure(
    controller: &Controller,
    engine: &EngineHandle,
    modes: &[Mode],
    chunk_tokens: usize,
) -> Result<(), EngineError> {
    let segments = segments(engine, chunk_tokens);
    let mut chunks = Vec::new();
    for ids in &segments.chunks {
        let kv = engine
            .chunk_kv(segments.prefix.clone().into(), ids.clone())
            .await?;
        chunks.push(ResidentChunk::new(MemorySource(Arc::new(kv))));
    }
    for mode in modes {
        let plan = plan(engine, &segments, mode.clone())?;
        engine.rehearse(request(&plan, &chunks)).await?;
        let report = engine.rehearse(request(&plan, &chunks)).await?;
        controller.learn(&plan, &TIERS, &report);
    }
    Ok(())
}

fn plan(
    engine: &EngineHandle,
    segments: &PromptSegments,
    mode: Mode,
) -> Result<FusionPlan, EngineError> {
    let states = vec![ChunkState::Hit { exact: false }; segments.chunks.len()];
    FusionPlan::new(segments.clone(), states, mode, engine.model())
}

fn request(plan: &FusionPlan, chunks: &[ResidentChunk]) -> FuseRequest {
    let source = |chunk: &ResidentChunk| Some(Box::new(chunk.clone()) as Box<dyn LayerSource>);
    FuseRequest {
        plan: plan.clone(),
        sources: chunks.iter().map(source).collect(),
        sampling: SamplingParams::greedy(1),
        deadline: None,
    }
}

/// A chunk's KV in its own memory tier: a layer stays in the buffer it was first read into, and is shared from there.
#[derive(Clone)]
struct ResidentChunk {
    kv: MemorySource,
    memory: Arc<MemoryTier>,
}

/// The only chunk of such a tier.
const KEY: BlobKey = BlobKey([0; 32]);

impl ResidentChunk {
    fn new(kv: MemorySource) -> Self {
        Self {
            kv,
            memory: Arc::new(MemoryTier::new(u64::MAX)),
        }
    }
}

impl LayerSource for ResidentChunk {
    fn read_layer(&self, layer: usize, into: &mut HostBuffer) -> Result<(), SourceError> {
        self.kv.read_layer(layer, into)
    }

    fn resident(&self, layer: usize) -> Option<Arc<HostBuffer>> {
        self.memory.get(&KEY, layer)
    }

    fn keep(&self, layer: usize, block: &Arc<HostBuffer>) {
        self.memory.offer(&KEY, layer, block, 0);
    }

    fn tier(&self) -> Tier {
        Tier::Memory
    }
}

/// A prompt without a prefix: the prefix cache is left to requests.
fn segments(engine: &EngineHandle, chunk_tokens: usize) -> PromptSegments {
    let vocab_size = engine.model().config.vocab_size;
    let mut next = 0_usize;
    let mut ids = |n: usize| -> Vec<u32> {
        let mut id = || {
            next += 1;
            (next.wrapping_mul(2_654_435_761) % vocab_size) as u32
        };
        (0..n).map(|_| id()).collect()
    };
    PromptSegments {
        prefix: Vec::new(),
        chunks: (0..N_CHUNKS).map(|_| ids(chunk_tokens)).collect(),
        question: ids(QUESTION_TOKENS),
    }
}

#[cfg(test)]
mod tests {
    use ragweave_engine::{BlockSpan, ChunkKv};

    use super::*;

    #[test]
    fn a_layer_that_was_read_is_lent_and_not_copied_again() {
        let kv = ChunkKv {
            token_ids: vec![1],
            layers: vec![(vec![1; 4], vec![2; 4])],
            anchors: Vec::new(),
        };
        let kept = ResidentChunk::new(MemorySource(Arc::new(kv)));
        assert!(kept.resident(0).is_none());
        let mut buffer = HostBuffer::new(BlockSpan::new(4, 4));
        kept.read_layer(0, &mut buffer).unwrap();
        let block = Arc::new(buffer);
        kept.keep(0, &block);
        let lent = kept.clone().resident(0).unwrap();
        assert!(Arc::ptr_eq(&lent, &block));
        assert_eq!((lent.k(), lent.v()), (&[1; 4][..], &[2; 4][..]));
    }
}
