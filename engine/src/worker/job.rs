//! The jobs of the engine thread.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::engine::{DeviationMap, Trace, TraceRequest};
use crate::error::EngineError;
use crate::fusion::{FuseReport, FusionPlan, Loader};
use crate::generate::TokenEvent;
use crate::kv::{ChunkKv, LayerSource};
use crate::sampling::SamplingParams;

/// A request in the queue. If it is next, its stored KV is already being read.
pub(super) struct Queued {
    pub plan: FusionPlan,
    pub loader: Loader,
    pub sampling: SamplingParams,
    pub deadline: Option<Instant>,
    pub submitted: Instant,
}

/// Work for the engine thread.
pub(super) enum Job {
    Generate {
        request: Queued,
        started: oneshot::Sender<Result<FuseReport, EngineError>>,
        events: mpsc::Sender<Result<TokenEvent, EngineError>>,
    },
    Logits {
        request: Queued,
        reply: oneshot::Sender<Result<(Vec<f32>, FuseReport), EngineError>>,
    },
    Trace {
        request: TraceRequest,
        reply: oneshot::Sender<Result<Trace, EngineError>>,
    },
    Deviation {
        plan: FusionPlan,
        sources: Vec<Option<Box<dyn LayerSource>>>,
        reply: oneshot::Sender<Result<DeviationMap, EngineError>>,
    },
    ChunkKv {
        prefix: Arc<[u32]>,
        neighbours: Vec<u32>,
        chunk_ids: Vec<u32>,
        reply: oneshot::Sender<Result<ChunkKv, EngineError>>,
    },
    /// Panics on the engine thread with this message.
    #[cfg(feature = "testing")]
    Panic {
        message: &'static str,
        reply: oneshot::Sender<Result<(), EngineError>>,
    },
}

impl Job {
    /// Whether a caller still waits for the result.
    pub(super) fn is_wanted(&self) -> bool {
        match self {
            Self::Generate { started, .. } => !started.is_closed(),
            Self::Logits { reply, .. } => !reply.is_closed(),
            Self::Trace { reply, .. } => !reply.is_closed(),
            Self::Deviation { reply, .. } => !reply.is_closed(),
            Self::ChunkKv { reply, .. } => !reply.is_closed(),
            #[cfg(feature = "testing")]
            Self::Panic { .. } => true,
        }
    }
}
