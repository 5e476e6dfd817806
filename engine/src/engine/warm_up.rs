//! What an engine does on a device that compiles kernels at run time: it tests the device, warms it up before
//! the first request, and returns it to a known state after it ran out of memory.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{DType, Tensor};

use super::{Engine, Sequence};
use crate::error::EngineError;
use crate::fusion::{ChunkState, Forward, FusionPlan, Mode, PromptSegments, shared};
use crate::kernel::FusionBackend;
use crate::kv::{LayerSource, MemorySource};
use crate::model::RopeTable;

/// Tokens of the chunk that is stored and fused.
const CHUNK_TOKENS: usize = 16;
/// Rows that fill one and a half large tiles (`kernel/gpu/linear/tensor_cores/tile.rs`).
const BETWEEN: usize = 192;
/// Modes that need kernels beyond those of a full prefill: for placing KV, and for its deviation.
const FUSED_MODES: [&str; 2] = ["reuse", "hkvd:0.5"];

impl<B: FusionBackend> Engine<B> {
    /// Computes a sum whose result is known. A kernel that cannot be compiled or launched leaves
    /// its result unchanged, and the device reports this only on standard error.
    pub(super) fn try_device(device: &B::Device) -> Result<(), EngineError> {
        let sum = Tensor::<B, 1>::ones([3], (device, DType::F32)) * 2.0 + 1.0;
        let sum = sum.try_into_data().map_err(|error| EngineError::Device {
            message: format!("{error:?}"),
        })?;
        match sum.iter::<f32>().eq([3.0; 3]) {
            true => Ok(()),
            false => Err(EngineError::Device {
                message: format!(
                    "{device:?} does not run kernels; see standard error for the reason. CUDA needs NVRTC and the \
                     CUDA headers (CUDA_PATH, else /usr/local/cuda)"
                ),
            }),
        }
    }

    /// Runs work of every shape once. Kernels are compiled and products timed for each power-of-two number of
    /// rows, and for a number in between that uses a separate kernel. The results are kept on disk, so only the
    /// first start on a machine takes long.
    ///
    /// # Errors
    /// As [`Engine::load`]; `DeviceMemory` if the model leaves no room to work in.
    pub(super) fn warm_up(&mut self) -> Result<(), EngineError> {
        let start = Instant::now();
        // A prompt leaves room for one token of the answer.
        let longest = self.info.max_model_len.saturating_sub(1);
        let longest = longest.min(self.max_prefill_tokens).max(1);
        let powers = (0..usize::BITS).map(|i| 1_usize << i);
        let rows = powers.take_while(|&rows| rows < longest);
        let between = (BETWEEN < longest).then_some(BETWEEN);
        for rows in rows.chain(between).chain([longest]) {
            self.run_alone(&[], &vec![0; rows], Forward::Last, &mut |_, _| {})?;
        }
        if self.info.max_model_len > CHUNK_TOKENS + 2 {
            self.fuse_and_decode()?;
        }
        let (head_dim, layers) = (self.info.config.head_dim, &self.info.config.layers);
        let (device, dtype) = (self.decoder.device(), self.decoder.dtype());
        if let Some(layer) = layers.first() {
            B::compile_by_size(device, dtype, head_dim, layer.activation);
        }
        self.prefixes.clear();
        self.spare.clear();
        tracing::info!(seconds = start.elapsed().as_secs_f32(), "warmed up");
        Ok(())
    }

    fn fuse_and_decode(&mut self) -> Result<(), EngineError> {
        let kv = Arc::new(self.chunk_kv(&[0], &[0; CHUNK_TOKENS])?);
        for mode in FUSED_MODES {
            let mode: Mode = mode.parse().expect("a mode in the engine's notation");
            let segments = PromptSegments {
                prefix: Vec::new(), // so that the chunk is not exact
                chunks: vec![kv.token_ids.clone()],
                question: vec![0],
            };
            let states = vec![ChunkState::Hit { exact: false }];
            let plan = FusionPlan::new(segments, states, mode, &self.info)?;
            let source: Box<dyn LayerSource> = Box::new(MemorySource(kv.clone()));
            let capacity = plan.n_tokens() + 1;
            let loader = self.open(&plan, shared(vec![Some(source)]));
            let mut sequence: Sequence<B> = self.fuse(plan, loader, capacity, &|| None)?;
            self.step(&mut sequence, 0)?;
            self.end(sequence);
        }
        Ok(())
    }

    /// Drops everything that failed work may have computed, since its tensors may never have been written.
    /// The weights were written, and stay.
    ///
    /// # Errors
    /// `Device` if the device no longer works.
    pub(crate) fn forget(&mut self) -> Result<(), EngineError> {
        let device = self.decoder.device().clone();
        self.prefixes.clear();
        self.spare.clear();
        self.rope = RopeTable::new(&self.info.config, &device);
        B::memory_cleanup(&device);
        Self::try_device(&device)
    }
}
