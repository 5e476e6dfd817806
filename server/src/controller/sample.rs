//! Measures the speed of reading when a request has read nothing. Otherwise a controller that chose full prefill
//! because reading was slow would never find out that reading has become fast.

use std::time::{Duration, Instant};

use ragweave_engine::{FusionPlan, HostBuffer, LayerSource, Mode, ModelInfo, SourceError, Tier};

/// Bytes read, in whole layers. A smaller read could be served from readahead and would not show the speed of the disk.
const SAMPLE_BYTES: usize = 4 << 20;
/// Least number of layers read, if the chunk has that many.
const MIN_LAYERS: usize = 2;

/// Looks sources up until one is found, and opens it. Returns how many were looked up, the source's tokens, and the
/// source. `None` if nothing is stored.
type Open = Box<dyn FnOnce() -> Option<(usize, usize, Box<dyn LayerSource>)> + Send>;

/// A source that a plan leaves unread.
pub struct UnreadSource(State);

enum State {
    Opened {
        source: Box<dyn LayerSource>,
        n_tokens: usize,
    },
    /// Not even looked up, so the time of the lookup is measured too.
    NotLookedUp(Open),
}

/// What was read, and how long that took.
pub(super) struct Sampled {
    pub(super) tier: Tier,
    pub(super) n_reads: usize,
    pub(super) bytes: usize,
    pub(super) time: Duration,
    /// How many sources were looked up and opened, and how long that took; absent if the source was already open.
    pub(super) opened: Option<(usize, Duration)>,
}

impl UnreadSource {
    /// Takes one of the sources of a plan that reads none.
    pub fn take(plan: &FusionPlan, sources: &mut [Option<Box<dyn LayerSource>>]) -> Option<Self> {
        if *plan.mode() != Mode::Full {
            return None;
        }
        let mut sources = sources.iter_mut().enumerate();
        sources.find_map(|(chunk, source)| {
            let (source, n_tokens) = (source.take()?, plan.chunk_rows(chunk).len());
            Some(Self(State::Opened { source, n_tokens }))
        })
    }

    /// A source that was not looked up.
    pub fn not_looked_up(
        open: impl FnOnce() -> Option<(usize, usize, Box<dyn LayerSource>)> + Send + 'static,
    ) -> Self {
        Self(State::NotLookedUp(Box::new(open)))
    }

    /// Reads a few layers; `None` if nothing is stored. Blocks.
    pub(super) fn read(self, model: &ModelInfo) -> Result<Option<Sampled>, SourceError> {
        let start = Instant::now();
        let (source, n_tokens, opened) = match self.0 {
            State::Opened { source, n_tokens } => (source, n_tokens, None),
            State::NotLookedUp(open) => match open() {
                Some((n, n_tokens, source)) => (source, n_tokens, Some((n, start.elapsed()))),
                None => return Ok(None),
            },
        };
        let span = model.identity.block_span(n_tokens);
        let mut buffer = HostBuffer::new(span);
        let n_reads = (SAMPLE_BYTES / span.payload_bytes().max(1)).max(MIN_LAYERS);
        let n_reads = n_reads.min(model.config.num_hidden_layers);
        let start = Instant::now();
        for layer in 0..n_reads {
            source.read_layer(layer, &mut buffer)?;
        }
        Ok(Some(Sampled {
            tier: source.tier(),
            n_reads,
            bytes: span.payload_bytes() * n_reads,
            time: start.elapsed(),
            opened,
        }))
    }
}
