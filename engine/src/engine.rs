//! One model on one device: prefill, fusion with replanning, chunk KV, single decode steps.
//!
//! `Engine` is single-threaded and generic over the backend; `worker` gives it a thread and a
//! handle without generics.

mod chunk;
#[cfg(feature = "testing")]
mod testing;
mod trace;
mod warm_up;

use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::{DType, Tensor};

use crate::config::ModelConfig;
use crate::error::EngineError;
use crate::fusion::{
    BatchEntry, Forward, FuseError, FuseReport, FusedPrefill, FusionContext, FusionPlan, Halt,
    LayerStep, LiveRows, Loader, NoHooks, Observer, PrefillRequest, Readers, Sources, StopCheck,
    advance, decode_steps, prefill,
};
use crate::kernel::{FusionBackend, Isa};
use crate::kv::{KvCache, PrefixCache, SpareCache};
use crate::model::load::WeightSource;
use crate::model::{Decoder, RopeTable};
use crate::model_files::ModelFiles;
use crate::model_info::ModelInfo;
use crate::options::EngineOptions;

#[cfg(feature = "testing")]
pub use self::testing::ForwardTrace;
pub use self::trace::{DeviationMap, Trace, TraceRequest};

/// A loaded model.
pub struct Engine<B: FusionBackend> {
    decoder: Decoder<B>,
    rope: RopeTable<B>,
    prefixes: PrefixCache<B>,
    info: Arc<ModelInfo>,
    readers: Arc<Readers>,
    max_prefill_tokens: usize,
    spare: SpareCache<B>,
    decode_steps: Arc<[LayerStep]>,
}

/// A prompt ready for decoding.
pub(crate) struct Sequence<B: FusionBackend> {
    pub cache: KvCache<B>,
    /// Next free position.
    pub n_tokens: usize,
    /// Logits after the last token, `[vocab_size]`.
    pub logits: Vec<f32>,
    pub report: FuseReport,
}

impl<B: FusionBackend> Engine<B> {
    /// Loads the weights onto `device`.
    ///
    /// # Errors
    /// As [`ModelInfo::read`], for missing or malformed tensors, and `InvalidRequest` for a dtype the
    /// device cannot compute in.
    pub fn load(
        options: &EngineOptions,
        info: Arc<ModelInfo>,
        device: &B::Device,
    ) -> Result<Self, EngineError> {
        let readers = start_readers(options.read_timeout)?;
        Self::load_with(options, info, readers, device)
    }

    /// [`Engine::load`], with reader threads that are already running.
    pub(crate) fn load_with(
        options: &EngineOptions,
        info: Arc<ModelInfo>,
        readers: Arc<Readers>,
        device: &B::Device,
    ) -> Result<Self, EngineError> {
        limit_isa(options.isa)?;
        let dtype = options.dtype.dtype();
        if B::COMPILES_WHILE_RUNNING {
            Self::try_device(device)?;
        }
        if let Some(memory) = B::host_memory(device) {
            readers.read_into(memory);
        }
        check_range(dtype, &info.config)?;
        check_dtype::<B>("dtype", dtype, device)?;
        check_dtype::<B>("kv_dtype", options.kv_dtype.dtype(), device)?;
        let decoder = match options.random_weights {
            Some(seed) => {
                Decoder::load(&info.config, &WeightSource::Random { seed }, dtype, device)?
            }
            None => {
                let files = ModelFiles::open(&options.model_dir)?.weights()?;
                let source = WeightSource::Files(&files);
                let decoder = Decoder::load(&info.config, &source, dtype, device)?;
                files.check_unchanged(&info.weights)?;
                decoder
            }
        };
        Ok(Self {
            rope: RopeTable::new(&info.config, device),
            prefixes: PrefixCache::new(options.prefix_cache_entries),
            max_prefill_tokens: options.max_prefill_tokens.max(1),
            spare: SpareCache::new(),
            decode_steps: decode_steps(info.config.num_hidden_layers),
            decoder,
            info,
            readers,
        })
    }

    /// [`Engine::load`], warmed up: the first request compiles and times nothing.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub(crate) fn load_warm(
        options: &EngineOptions,
        info: Arc<ModelInfo>,
        readers: Arc<Readers>,
        device: &B::Device,
    ) -> Result<Self, EngineError> {
        let mut engine = Self::load_with(options, info, readers, device)?;
        if B::COMPILES_WHILE_RUNNING {
            engine.warm_up()?;
        }
        Ok(engine)
    }

    pub fn info(&self) -> &Arc<ModelInfo> {
        &self.info
    }

    /// Computes the plan's KV and the logits of its last position.
    ///
    /// A chunk whose stored KV proves bad is planned again as missed; after a second bad chunk the
    /// prompt is fully prefilled. Bad KV never causes an error.
    pub(crate) fn fuse(
        &mut self,
        plan: FusionPlan,
        loader: Loader,
        capacity: usize,
        stop: StopCheck<'_>,
    ) -> Result<Sequence<B>, EngineError> {
        self.fuse_observed(plan, loader, capacity, stop, &mut |_, _| {})
    }

    /// [`Engine::fuse`], with every layer shown to `observe`; a replanned prompt starts again from
    /// layer 0.
    pub(crate) fn fuse_observed(
        &mut self,
        plan: FusionPlan,
        loader: Loader,
        capacity: usize,
        stop: StopCheck<'_>,
        observe: Observer<'_, B>,
    ) -> Result<Sequence<B>, EngineError> {
        let fused = self.fuse_or_replan(plan, loader, capacity, stop, observe)?;
        let start = Instant::now();
        let logits = match self.read_logits(fused.hidden) {
            Ok(logits) => logits,
            Err(error) => {
                self.spare.give(fused.cache);
                return Err(error);
            }
        };
        let mut report = fused.report;
        report.timings.first_decode = start.elapsed();
        Ok(Sequence {
            cache: fused.cache,
            n_tokens: report.prompt_tokens,
            logits,
            report,
        })
    }

    fn fuse_or_replan(
        &mut self,
        mut plan: FusionPlan,
        mut loader: Loader,
        capacity: usize,
        stop: StopCheck<'_>,
        observe: Observer<'_, B>,
    ) -> Result<FusedPrefill<B>, EngineError> {
        let mut failed_chunks = Vec::new();
        loop {
            let request = PrefillRequest {
                plan: &plan,
                loader,
                capacity,
                at_end: Forward::Last,
                stop,
            };
            match prefill(&mut self.context(), request, observe) {
                Ok(mut fused) => {
                    fused.report.replans = failed_chunks.len();
                    fused.report.failed_chunks = failed_chunks;
                    return Ok(fused);
                }
                Err(FuseError::Stopped(error)) => return Err(error),
                Err(FuseError::BadBlock { block, sources }) => {
                    let (chunk, layer) = (block.chunk, block.layer);
                    tracing::warn!(chunk, layer, error = %block.error, "stored KV is bad; planning the prompt again");
                    failed_chunks.push(chunk);
                    plan = plan.with_miss(chunk);
                    if failed_chunks.len() > 1 {
                        plan = plan.into_full();
                    }
                    loader = self.open(&plan, sources);
                }
            }
        }
    }

    /// One decode step: `token` enters at the sequence's next position.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub(crate) fn step(
        &mut self,
        sequence: &mut Sequence<B>,
        token: u32,
    ) -> Result<(), EngineError> {
        B::close_by(|| self.step_here(sequence, token))
    }

    fn step_here(&mut self, sequence: &mut Sequence<B>, token: u32) -> Result<(), EngineError> {
        let hidden = self.extend(sequence, &[token], &|| None)?; // [1, hidden_size]
        sequence.logits = self.read_logits(hidden)?;
        sequence.n_tokens += 1;
        Ok(())
    }

    /// Runs the tokens that follow a sequence through all layers, as the rows of one pass, each under its causal mask:
    /// `[ids, hidden_size]`. The caller counts them.
    fn extend(
        &mut self,
        sequence: &mut Sequence<B>,
        ids: &[u32],
        stop: StopCheck<'_>,
    ) -> Result<Option<Tensor<B, 2>>, EngineError> {
        let positions = sequence.n_tokens..sequence.n_tokens + ids.len();
        let steps = self.decode_steps.clone();
        let context = &mut self.context();
        let mut live = LiveRows::start(context, steps, positions.collect(), ids);
        while live.step().is_some() {
            let entry = BatchEntry::new(&mut live, &mut sequence.cache, NoHooks, stop);
            advance(context, &mut [entry]).map_err(Halt::into_error)?;
        }
        Ok(live.into_hidden())
    }

    /// Logits of rows that have gone through all layers, one row after the other: `[rows * vocab_size]`.
    fn read_logits(&self, hidden: Option<Tensor<B, 2>>) -> Result<Vec<f32>, EngineError> {
        let hidden = hidden.ok_or_else(|| EngineError::Device {
            message: "the last layer gave no hidden state".into(),
        })?;
        let data = self.decoder.logits(hidden).try_into_data();
        let data = data.map_err(|error| EngineError::Device {
            message: format!("{error:?}"),
        })?;
        Ok(data.iter::<f32>().collect())
    }

    /// Ends a sequence, and keeps its buffers for the next one.
    pub(crate) fn end(&mut self, sequence: Sequence<B>) -> (Vec<f32>, FuseReport) {
        self.spare.give(sequence.cache);
        (sequence.logits, sequence.report)
    }

    /// Starts reading the stored KV that a plan needs.
    fn open(&self, plan: &FusionPlan, sources: Sources) -> Loader {
        Loader::open(&self.readers, plan, sources, &self.info.identity)
    }

    fn context(&mut self) -> FusionContext<'_, B> {
        FusionContext {
            decoder: &self.decoder,
            rope: &mut self.rope,
            prefixes: &mut self.prefixes,
            spare: &mut self.spare,
            identity: &self.info.identity,
            max_prefill_tokens: self.max_prefill_tokens,
        }
    }
}

/// Threads that read stored KV.
pub(crate) fn start_readers(read_timeout: Duration) -> Result<Arc<Readers>, EngineError> {
    let readers = Readers::start(read_timeout).map_err(|error| EngineError::Device {
        message: format!("could not start the threads that read stored KV: {error}"),
    })?;
    Ok(Arc::new(readers))
}

fn limit_isa(isa: Option<Isa>) -> Result<(), EngineError> {
    let limited = isa.map_or(Ok(()), Isa::limit);
    limited.map_err(|error| EngineError::InvalidRequest {
        field: "isa",
        message: format!("must be set before anything is computed: {error}"),
    })
}

/// Refuses a dtype too narrow for the model's values, because its logits would be NaN.
fn check_range(dtype: DType, config: &ModelConfig) -> Result<(), EngineError> {
    if dtype != DType::F16 || !config.architecture.exceeds_f16() {
        return Ok(());
    }
    let message = format!(
        "f16 is too narrow for {}: values between layers exceed 65504 and would become infinite; use f32 or bf16 \
         (kv_dtype may be f16)",
        config.architecture.class_name()
    );
    Err(EngineError::InvalidRequest {
        field: "dtype",
        message,
    })
}

/// Refuses an unsupported dtype here, because the device would panic.
fn check_dtype<B: FusionBackend>(
    field: &'static str,
    dtype: DType,
    device: &B::Device,
) -> Result<(), EngineError> {
    if B::supports_dtype(device, dtype) {
        return Ok(());
    }
    let message = format!(
        "{} is not supported by device {device:?}; use f32 or f16",
        dtype.name()
    );
    Err(EngineError::InvalidRequest { field, message })
}

#[cfg(test)]
mod tests;
