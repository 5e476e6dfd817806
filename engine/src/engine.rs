//! One model on one device: prefill, fusion with replanning, chunk KV, single decode steps.
//!
//! `Engine` is single-threaded and generic over the backend; `worker` gives it a thread and a
//! handle without generics.

mod chunk;
#[cfg(feature = "testing")]
mod testing;
mod trace;
mod warm_up;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::{DType, Tensor};

use crate::config::ModelConfig;
use crate::error::EngineError;
use crate::fusion::{
    Flight, Forward, FuseError, FuseReport, FusedPrefill, FusionContext, FusionPlan, Halt,
    Lane, LayerStep, Loader, NoHooks, Observer, Readers, Sources, StopCheck, advance, decode_steps,
    prefill,
};
use crate::generation_config::GenerationDefaults;
use crate::kernel::FusionBackend;
use crate::kv::{ComputeDtype, KvCache, KvDtype, KvIdentity, PrefixCache, SpareCache};
use crate::model::load::WeightSource;
use crate::model::{Decoder, RopeTable};
use crate::text::{ChatTemplate, TextCodec};
use crate::weights::{WeightFiles, WeightStamp};

#[cfg(feature = "testing")]
pub use self::testing::ForwardTrace;
pub use self::trace::{DeviationMap, Trace, TraceRequest};

/// How to load and run a model.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// A Hugging Face model directory.
    pub model_dir: PathBuf,
    pub dtype: ComputeDtype,
    pub kv_dtype: KvDtype,
    /// Rows computed at once in prefill.
    pub max_prefill_tokens: usize,
    /// Limit on prompt plus answer; the model's own limit where absent.
    pub max_model_len: Option<usize>,
    /// Requests that may wait.
    pub max_queue: usize,
    /// Prompt prefixes whose exact KV is kept on the device.
    pub prefix_cache_entries: usize,
    /// Stored KV whose read takes longer is computed instead.
    pub read_timeout: Duration,
    /// Random weights of this seed instead of weight files: only config.json is needed.
    pub random_weights: Option<u64>,
}

impl EngineOptions {
    /// Defaults for a model directory: f32, 512 rows at once, 64 waiting, 16 prefixes, 10 s for a read.
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
            random_weights: None,
        }
    }
}

/// What is known of a model without touching its weights on the device.
#[derive(Debug)]
pub struct ModelInfo {
    pub config: ModelConfig,
    pub identity: KvIdentity,
    /// Absent where the directory has no tokenizer (random weights, `--tokens`).
    pub tokenizer: Option<TextCodec>,
    /// Absent where the directory has none. One that cannot be used is not an error until it is
    /// used: a prompt format made of strings does not need it.
    pub template: Result<Option<ChatTemplate>, EngineError>,
    pub generation: GenerationDefaults,
    /// The directory's name.
    pub name: String,
    /// Limit on prompt plus answer, in tokens.
    pub max_model_len: usize,
    pub dir: PathBuf,
    /// The weight files that were hashed; none where weights are random.
    pub(crate) weights: WeightStamp,
}

impl ModelInfo {
    /// Reads everything but the weights' values; the weight files are hashed.
    ///
    /// # Errors
    /// Names the file and field that is missing, malformed or unsupported.
    pub fn read(options: &EngineOptions) -> Result<Self, EngineError> {
        let dir = &options.model_dir;
        let config = ModelConfig::from_dir(dir)?;
        let tokenizer = match dir.join("tokenizer.json").exists() {
            true => Some(TextCodec::from_dir(dir)?),
            false => None,
        };
        if let Some(tokenizer) = &tokenizer {
            tokenizer.check_rows(config.vocab_size, &dir.join("config.json"))?;
        }
        let template = match &tokenizer {
            Some(tokenizer) => ChatTemplate::from_dir(dir, tokenizer),
            None => Ok(None),
        };
        let (weights, weights_hash) = match options.random_weights {
            Some(seed) => {
                let hash = blake3::hash(format!("random weights {seed}").as_bytes());
                (WeightStamp::default(), *hash.as_bytes())
            }
            None => {
                let files = WeightFiles::open(dir)?;
                (files.stamp()?, files.hash()?)
            }
        };
        let tokenizer_hash = tokenizer.as_ref().map_or([0; 32], TextCodec::hash);
        let identity = KvIdentity::new(
            &config,
            weights_hash,
            tokenizer_hash,
            options.dtype,
            options.kv_dtype,
        );
        let limit = options.max_model_len.unwrap_or(usize::MAX);
        Ok(Self {
            max_model_len: limit.min(config.max_position_embeddings),
            generation: GenerationDefaults::from_dir(dir, &config, tokenizer.as_ref())?,
            name: directory_name(dir),
            dir: dir.clone(),
            weights,
            config,
            identity,
            tokenizer,
            template,
        })
    }
}

fn directory_name(dir: &Path) -> String {
    let resolved = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    resolved
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

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

    /// [`Engine::load`], with reader threads that are there already.
    pub(crate) fn load_with(
        options: &EngineOptions,
        info: Arc<ModelInfo>,
        readers: Arc<Readers>,
        device: &B::Device,
    ) -> Result<Self, EngineError> {
        let dtype = options.dtype.dtype();
        if B::COMPILES_WHILE_RUNNING {
            Self::try_device(device)?;
        }
        if let Some(memory) = B::host_memory(device) {
            readers.read_into(memory);
        }
        check_dtype::<B>("dtype", dtype, device)?;
        check_dtype::<B>("kv_dtype", options.kv_dtype.dtype(), device)?;
        let decoder = match options.random_weights {
            Some(seed) => {
                Decoder::load(&info.config, &WeightSource::Random { seed }, dtype, device)?
            }
            None => {
                let files = WeightFiles::open(&options.model_dir)?;
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

    /// [`Engine::load`], ready for requests: nothing is compiled or timed in the first of them.
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

    /// Makes the plan's KV and the logits of its last position.
    ///
    /// A chunk whose stored KV proves bad is planned again as missed; at a second bad chunk the
    /// prompt is fully prefilled. No error comes from bad KV.
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
            let context = &mut self.context(stop);
            match prefill(context, &plan, loader, capacity, Forward::Last, observe) {
                Ok(mut fused) => {
                    fused.report.replans = failed_chunks.len();
                    fused.report.failed_chunks = failed_chunks;
                    return Ok(fused);
                }
                Err(FuseError::Stopped(error)) => return Err(error),
                Err(FuseError::BadBlock { block, sources }) => {
                    let (chunk, layer) = (block.chunk, block.layer);
                    tracing::warn!(chunk, layer, error = %block.error, "stored KV is bad: replan");
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
        let (steps, positions) = (self.decode_steps.clone(), vec![sequence.n_tokens]);
        let context = &mut self.context(&|| None);
        let mut flight = Flight::start(context, steps, positions, &[token]);
        while flight.step().is_some() {
            let lane = Lane::new(&mut flight, &mut sequence.cache, NoHooks);
            advance(context, &mut [lane]).map_err(Halt::into_error)?;
        }
        let hidden = flight.into_hidden(); // [1, hidden_size]
        sequence.logits = self.read_logits(hidden)?;
        sequence.n_tokens += 1;
        Ok(())
    }

    /// Logits of the row that has gone through all layers: `[vocab_size]`.
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

    /// Begins to read what a plan needs.
    fn open(&self, plan: &FusionPlan, sources: Sources) -> Loader {
        Loader::open(&self.readers, plan, sources, &self.info.identity)
    }

    fn context<'a>(&'a mut self, stop: StopCheck<'a>) -> FusionContext<'a, B> {
        FusionContext {
            decoder: &self.decoder,
            rope: &mut self.rope,
            prefixes: &mut self.prefixes,
            spare: &mut self.spare,
            identity: &self.info.identity,
            max_prefill_tokens: self.max_prefill_tokens,
            stop,
        }
    }
}

/// Threads that read stored KV.
pub(crate) fn start_readers(read_timeout: Duration) -> Result<Arc<Readers>, EngineError> {
    let readers = Readers::start(read_timeout).map_err(|error| EngineError::Device {
        message: format!("threads to read stored KV: {error}"),
    })?;
    Ok(Arc::new(readers))
}

/// Refuses a dtype before the device does, which it does by panicking.
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
