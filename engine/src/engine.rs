//! One model on one device: prefill, fusion with replanning, chunk KV, single decode steps.
//!
//! `Engine` is single-threaded and generic over the backend; `worker` gives it a thread and a
//! handle without generics.

mod warm_up;

use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::{DType, Tensor};

use crate::error::EngineError;
use crate::fusion::{
    AnchorFinder, FuseError, FuseReport, FusedPrefill, FusionContext, FusionPlan, LayerView,
    Loader, Mode, Observer, PromptSegments, Readers, RowWindow, Sources, StopCheck, shared,
};
use crate::kernel::FusionBackend;
use crate::kv::{ChunkKv, KvCache, KvSide, LayerSource, PrefixCache, SpareCache, tensor_to_block};
use crate::model::load::WeightSource;
use crate::model::{Decoder, RopeTable, row_tensor};
use crate::model_files::ModelFiles;
use crate::model_info::ModelInfo;
use crate::options::EngineOptions;

/// Logits at every position and K (before RoPE) and V of every layer of one full prefill.
#[derive(Debug, Clone)]
pub struct ForwardTrace {
    /// `[n_tokens, vocab_size]`
    pub logits: Vec<Vec<f32>>,
    /// Per layer K before RoPE and V, `[n_tokens, kv_heads, head_dim]` row-major.
    pub layers: Vec<(Vec<f32>, Vec<f32>)>,
}

/// A prompt and the answer its logits are wanted along.
pub struct TraceRequest {
    pub plan: FusionPlan,
    /// One per chunk; `None` for a miss.
    pub sources: Vec<Option<Box<dyn LayerSource>>>,
    /// Token ids decoded one after the other, whatever the logits say.
    pub forced: Vec<u32>,
}

/// What a mode computes along a given answer.
#[derive(Debug, Clone)]
pub struct Trace {
    /// After the prompt and after each forced token: `[1 + forced][vocab_size]`.
    pub logits: Vec<Vec<f32>>,
    /// Per layer, the output of attention at the prompt's last token, before its projection:
    /// `[n_layers][heads * head_dim]`.
    pub attention_output: Vec<Vec<f32>>,
    pub report: FuseReport,
}

/// Stored KV against that of a real full prefill of the same prompt.
#[derive(Debug, Clone)]
pub struct DeviationMap {
    /// Prompt positions of the stored rows that are not exact, ascending.
    pub rows: Vec<usize>,
    /// Per layer and row, squared L2 distance of K plus that of V, each over the layer's mean
    /// squared norm: `[n_layers][rows]`.
    pub layers: Vec<Vec<f32>>,
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
                let files = ModelFiles::new(&options.model_dir).weights()?;
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
        self.fuse_observed(plan, loader, capacity, stop, &mut |_| {})
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
        let logits = match fused.hidden {
            Some(hidden) => self.read_logits(hidden),
            None => Err(EngineError::Device {
                message: "prefill gave no hidden state".into(),
            }),
        };
        let logits = match logits {
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
            let mut context = self.context(stop);
            let outcome = context.prefill(&plan, loader, capacity, RowWindow::Last, observe);
            match outcome {
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

    /// KV of one chunk, computed alone behind the conditioning prefix, which is computed once and
    /// kept (CacheBlend section 4; design invariant 6).
    ///
    /// # Errors
    /// An empty chunk, ids outside the vocabulary, or more tokens than the model takes.
    pub fn chunk_kv(
        &mut self,
        conditioning: &[u32],
        chunk_ids: &[u32],
    ) -> Result<ChunkKv, EngineError> {
        self.chunk_kv_among(conditioning, &[], chunk_ids)
    }

    /// [`Engine::chunk_kv`], with other chunks between the prefix and the chunk, to which it attends
    /// (FusionRAG, arXiv 2601.12904). The prefix alone is kept; what follows is different each time.
    ///
    /// # Errors
    /// As [`Engine::chunk_kv`], over all the ids.
    pub fn chunk_kv_among(
        &mut self,
        prefix: &[u32],
        neighbours: &[u32],
        chunk_ids: &[u32],
    ) -> Result<ChunkKv, EngineError> {
        if chunk_ids.is_empty() {
            return Err(EngineError::InvalidRequest {
                field: "chunk",
                message: "has no tokens".into(),
            });
        }
        let kv_dtype = self.info.identity.kv_dtype;
        let start = prefix.len() + neighbours.len();
        let ids = [neighbours, chunk_ids].concat();
        // Attention of a few rows sums in another order than that of many, and so do products on
        // GPUs: with the prefix cached before the first chunk, a chunk's bytes do not depend on what was computed before it.
        if self.prefixes.is_missing(prefix) {
            self.run_alone(prefix, &ids, RowWindow::None, &mut |_| {})?;
        }
        let mut layers = Vec::with_capacity(self.info.config.num_hidden_layers);
        let mut anchors = AnchorFinder::new(start, chunk_ids.len());
        let mut observe = |view: LayerView<'_, B>| {
            let positions = &view.rows.positions;
            let first = positions.partition_point(|&position| position < start);
            let block =
                |x: &Tensor<B, 3>, side| tensor_to_block(rows_from(x, first), kv_dtype, side);
            let (k, v) = view.fresh;
            layers.push((block(k, KvSide::K), block(v, KvSide::V)));
            anchors.add(&view);
        };
        self.run_alone(prefix, &ids, RowWindow::None, &mut observe)?;
        Ok(ChunkKv {
            token_ids: chunk_ids.to_vec(),
            layers,
            anchors: anchors.finish(),
        })
    }

    /// A plain forward pass over `ids`, for parity tests and fidelity measurements.
    ///
    /// # Errors
    /// No ids, ids outside the vocabulary, or more than the model takes.
    pub fn forward(&mut self, ids: &[u32]) -> Result<ForwardTrace, EngineError> {
        let mut layers = Vec::new();
        let mut observe = |view: LayerView<'_, B>| {
            let floats = |x: &Tensor<B, 3>| x.to_data().iter::<f32>().collect();
            let (k, v) = view.fresh;
            layers.push((floats(k), floats(v)));
        };
        let hidden = self.run_alone(&[], ids, RowWindow::Alive, &mut observe)?;
        let hidden = hidden.ok_or(EngineError::Cancelled)?;
        let logits = self.decoder.logits(hidden).into_data();
        let flat: Vec<f32> = logits.iter::<f32>().collect();
        let vocab = self.info.config.vocab_size;
        Ok(ForwardTrace {
            logits: flat.chunks_exact(vocab).map(<[f32]>::to_vec).collect(),
            layers,
        })
    }

    /// Logits of a plan's last position, with the report of its prefill.
    ///
    /// # Errors
    /// None from bad KV, which is computed instead; a device failure otherwise.
    pub fn plan_logits(
        &mut self,
        plan: FusionPlan,
        sources: Vec<Option<Box<dyn LayerSource>>>,
    ) -> Result<(Vec<f32>, FuseReport), EngineError> {
        let capacity = plan.n_tokens();
        let loader = self.open(&plan, shared(sources));
        let sequence = self.fuse(plan, loader, capacity, &|| None)?;
        Ok(self.end(sequence))
    }

    /// Logits along a given answer, for comparing modes on the same tokens.
    ///
    /// # Errors
    /// As [`Engine::plan_logits`]; an answer that is too long, or holds ids outside the vocabulary.
    pub(crate) fn trace(
        &mut self,
        request: TraceRequest,
        stop: StopCheck<'_>,
    ) -> Result<Trace, EngineError> {
        let TraceRequest {
            plan,
            sources,
            forced,
        } = request;
        let capacity = plan.n_tokens() + forced.len();
        self.check_forced(&forced, capacity)?;
        let mut attention_output = Vec::new();
        let mut observe = |view: LayerView<'_, B>| {
            attention_output.truncate(view.index);
            attention_output.push(view.last_attended());
        };
        let loader = self.open(&plan, shared(sources));
        let mut sequence = self.fuse_observed(plan, loader, capacity, stop, &mut observe)?;
        let logits = self.follow(&mut sequence, forced, stop);
        let (_, report) = self.end(sequence);
        Ok(Trace {
            logits: logits?,
            attention_output,
            report,
        })
    }

    /// Logits after the prompt and after each of the forced tokens: `[1 + forced][vocab_size]`.
    fn follow(
        &mut self,
        sequence: &mut Sequence<B>,
        forced: Vec<u32>,
        stop: StopCheck<'_>,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let mut logits = vec![sequence.logits.clone()];
        for token in forced {
            if let Some(error) = stop() {
                return Err(error);
            }
            self.step(sequence, token)?;
            logits.push(sequence.logits.clone());
        }
        Ok(logits)
    }

    fn check_forced(&self, forced: &[u32], tokens: usize) -> Result<(), EngineError> {
        let (vocab, limit) = (self.info.config.vocab_size, self.info.max_model_len);
        if let Some(id) = forced.iter().find(|&&id| id as usize >= vocab) {
            return Err(EngineError::InvalidRequest {
                field: "forced",
                message: format!("holds id {id}, which is outside the vocabulary of {vocab}"),
            });
        }
        match tokens > limit {
            true => Err(EngineError::PromptTooLong { tokens, limit }),
            false => Ok(()),
        }
    }

    /// How far the stored KV of a plan's chunks is from a real full prefill.
    ///
    /// # Errors
    /// `Unavailable` where stored KV cannot be read; this measures it, so it is not replaced.
    pub(crate) fn deviation(
        &mut self,
        plan: &FusionPlan,
        sources: Vec<Option<Box<dyn LayerSource>>>,
        stop: StopCheck<'_>,
    ) -> Result<DeviationMap, EngineError> {
        let loader = self.open(plan, shared(sources));
        match self.context(stop).true_deviation(plan, loader) {
            Ok((rows, layers)) => Ok(DeviationMap { rows, layers }),
            Err(FuseError::Stopped(error)) => Err(error),
            Err(FuseError::BadBlock { block, .. }) => Err(EngineError::Unavailable {
                message: format!("stored KV of chunk {}: {}", block.chunk, block.error),
            }),
        }
    }

    /// Full prefill of `ids` after `prefix`, with every layer's computed K and V observed. Returns the last hidden
    /// states that `window` asks for, `[rows, hidden_size]`.
    fn run_alone(
        &mut self,
        prefix: &[u32],
        ids: &[u32],
        window: RowWindow,
        observe: Observer<'_, B>,
    ) -> Result<Option<Tensor<B, 2>>, EngineError> {
        let segments = PromptSegments {
            prefix: prefix.to_vec(),
            chunks: Vec::new(),
            question: ids.to_vec(),
        };
        let plan = FusionPlan::new(segments, Vec::new(), Mode::Full, &self.info)?;
        let capacity = plan.n_tokens();
        let never = || None;
        let loader = self.open(&plan, Vec::new());
        let mut context = self.context(&never);
        match context.prefill(&plan, loader, capacity, window, observe) {
            Ok(fused) => {
                self.spare.give(fused.cache);
                Ok(fused.hidden)
            }
            Err(FuseError::Stopped(error)) => Err(error),
            Err(FuseError::BadBlock { block, .. }) => Err(EngineError::Device {
                message: block.error.to_string(),
            }),
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
        let position = sequence.n_tokens;
        let rope = self.rope.rows(&[position]);
        let index = row_tensor::<B>(&[position], self.decoder.device());
        let mut hidden = self.decoder.embed(&[token]); // [1, hidden_size]
        for layer_idx in 0..self.info.config.num_hidden_layers {
            let layer = self.decoder.layer(layer_idx);
            let normed = layer.pre_attention(hidden.clone());
            let (k, v) = layer.keys_values(normed.clone()); // [1, kv_heads, head_dim]
            let cache = sequence.cache.layer_mut(layer_idx);
            cache.write_fresh(&index, k, v, &layer.rotation(&rope));
            let cache = sequence.cache.layer(layer_idx);
            hidden = layer.forward_rows(hidden, normed, &[position], &rope, cache);
        }
        sequence.logits = self.read_logits(hidden)?;
        sequence.n_tokens += 1;
        Ok(())
    }

    fn read_logits(&self, hidden: Tensor<B, 2>) -> Result<Vec<f32>, EngineError> {
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

/// Rows `first..` of `[m, heads, head_dim]`.
fn rows_from<B: FusionBackend>(x: &Tensor<B, 3>, first: usize) -> Tensor<B, 3> {
    let [m, heads, head_dim] = x.dims();
    x.clone().slice([first..m, 0..heads, 0..head_dim])
}

#[cfg(test)]
mod tests;
