//! How to load and run a model.

use std::path::PathBuf;
use std::time::Duration;

use crate::kernel::Isa;
use crate::kv::{ComputeDtype, KvDtype};

/// How to load and run a model.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// A Hugging Face model directory, or a GGUF file.
    pub model_dir: PathBuf,
    pub dtype: ComputeDtype,
    pub kv_dtype: KvDtype,
    /// Rows computed at once in prefill.
    pub max_prefill_tokens: usize,
    /// Limit on prompt plus answer; the model's own limit if absent.
    pub max_model_len: Option<usize>,
    /// The most requests that may wait.
    pub max_queue: usize,
    /// Prompt prefixes whose exact KV is kept on the device.
    pub prefix_cache_entries: usize,
    /// If reading stored KV takes longer than this, the KV is computed instead.
    pub read_timeout: Duration,
    /// CPU kernels of the process use at most this instruction set; `None`: the best that the processor has. For tests and
    /// measurements.
    pub isa: Option<Isa>,
    /// Random weights from this seed instead of weight files: only config.json is needed.
    pub random_weights: Option<u64>,
}

impl EngineOptions {
    /// Defaults for a model directory or GGUF file: f32, 512 rows at once, 64 waiting, 16 prefixes, 10 s for a read.
    pub fn new(model_dir: impl Into<PathBuf>) -> Self {
        Self {
            model_dir: model_dir.into(),
            dtype: ComputeDtype::F32,
            kv_dtype: KvDtype::F32,
            max_prefill_tokens: 512,
            max_model_len: None,
            max_queue: 64,
            prefix_cache_entries: 16,
            read_timeout: Duration::from_secs(10),
            isa: None,
            random_weights: None,
        }
    }
}
