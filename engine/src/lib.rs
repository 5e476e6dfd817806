//! The engine: model, KV, fusion, kernels and decoding, on Burn.
//!
//! The input is a prompt as token ids, cut into prefix, chunks and question ([`PromptSegments`]), with a
//! [`LayerSource`] per cached chunk. The output is a KV cache that is valid for decoding, and the logits
//! of the first token. The engine does not depend on any store, index or wire format.

pub mod config;
mod engine;
pub mod error;
mod fusion;
mod generate;
mod generation_config;
mod kernel;
mod kv;
mod model;
mod model_files;
mod model_info;
mod options;
mod sampling;
mod text;
mod weights;
mod worker;

pub use config::ModelConfig;
#[cfg(feature = "testing")]
pub use engine::ForwardTrace;
pub use engine::{DeviationMap, Engine, Trace, TraceRequest};
pub use error::EngineError;
pub use fusion::{
    BadNotation, BadRatio, Blend, Budget, ChunkState, Correction, Deviation, FuseReport,
    FuseTimings, FusionPlan, Mode, PartialBlend, PlanWork, Policy, Pooling, PromptSegments,
    QueryLayers, READ_AHEAD_LAYERS, Ratio, Schedule, Selection, StepWork,
};
pub use generate::{FinishReason, FinishReport, TokenEvent};
pub use generation_config::GenerationDefaults;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub use kernel::keep_tuning_in;
pub use kernel::{FusionBackend, Isa, IsaInUse, Rotation, UnknownIsa};
#[cfg(feature = "testing")]
pub use kernel::{
    add, add_reference, attend_rows, attend_rows_reference, embed, glu, glu_reference,
    masked_softmax, masked_softmax_reference, overwrite_rows, overwrite_rows_reference,
    place_block, place_rows_reference, project, project_add, project_gated, project_pair, rms_norm,
    rms_norm_reference, rotate, rotate_reference, row_distance, row_distance_reference, weight,
    write_rows,
};
pub use kv::{
    ALONE, BLOCK_ALIGN, BlockSpan, ChunkKv, ComputeDtype, HostBuffer, KV_LAYOUT_VERSION,
    KernelPrecision, KvDtype, KvIdentity, KvSide, LayerSource, MemorySource, SourceError,
    StoredBlock, StoredRows, Tier,
};
pub use model_info::ModelInfo;
pub use options::EngineOptions;
pub use sampling::{SamplingParams, TokenLogprob, TopLogprob};
pub use text::{ChatMessage, ChatTemplate, Detokenizer, TextCodec};
pub use worker::{EngineHandle, EngineHealth, FuseRequest, Generation};
