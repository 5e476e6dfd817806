//! A look at the speed of reading where a request has read nothing. Full prefill chosen because reading is slow would
//! never find out that reading has become fast.

use std::time::{Duration, Instant};

use ragweave_engine::{FusionPlan, HostBuffer, LayerSource, Mode, ModelInfo, SourceError, Tier};

/// Layers read: a few megabytes at most.
const MAX_LAYERS: usize = 4;

/// A source that a plan leaves unread.
pub struct Spare {
    source: Box<dyn LayerSource>,
    n_tokens: usize,
}

/// What was read, and how long it took.
pub(super) struct Sampled {
    pub(super) tier: Tier,
    pub(super) n_reads: usize,
    pub(super) bytes: usize,
    pub(super) time: Duration,
}

impl Spare {
    /// Takes one of the sources away from a plan that reads none.
    pub fn take(plan: &FusionPlan, sources: &mut [Option<Box<dyn LayerSource>>]) -> Option<Self> {
        if *plan.mode() != Mode::Full {
            return None;
        }
        let mut sources = sources.iter_mut().enumerate();
        sources.find_map(|(chunk, source)| {
            Some(Self {
                source: source.take()?,
                n_tokens: plan.chunk_rows(chunk).len(),
            })
        })
    }

    /// Reads a few layers. Blocks.
    pub(super) fn read(self, model: &ModelInfo) -> Result<Sampled, SourceError> {
        let span = model.identity.block_span(self.n_tokens);
        let mut buffer = HostBuffer::new(span);
        let n_reads = model.config.num_hidden_layers.min(MAX_LAYERS);
        let start = Instant::now();
        for layer in 0..n_reads {
            self.source.read_layer(layer, &mut buffer)?;
        }
        Ok(Sampled {
            tier: self.source.tier(),
            n_reads,
            bytes: span.payload_bytes() * n_reads,
            time: start.elapsed(),
        })
    }
}
