//! The KV of one chunk, and the full prefill, without stored KV, that computes it.

use burn::tensor::Tensor;

use super::Engine;
use crate::error::EngineError;
use crate::fusion::{
    AnchorFinder, Forward, FuseError, FusionPlan, LayerView, Mode, Observer, PrefillRequest,
    PromptSegments, prefill,
};
use crate::kernel::FusionBackend;
use crate::kv::{ChunkKv, KvSide, LayerCache, tensor_to_block};

impl<B: FusionBackend> Engine<B> {
    /// KV of one chunk, computed alone after the conditioning prefix, which is computed once and
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
    /// (FusionRAG, arXiv 2601.12904). Only the prefix is kept in the cache, because what follows it differs each time.
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
        // Attention over a few rows sums in another order than over many, and so do products on GPUs. Caching the
        // prefix before the first chunk keeps a chunk's bytes independent of what was computed earlier.
        if self.prefixes.is_missing(prefix) {
            self.run_alone(prefix, &ids, Forward::None, &mut |_, _| {})?;
        }
        let mut layers = Vec::with_capacity(self.info.config.num_hidden_layers);
        let mut anchors = AnchorFinder::new(start, chunk_ids.len());
        let mut observe = |view: &LayerView<'_, B>, cache: &LayerCache<B>| {
            let positions = &view.rows.positions;
            let first = positions.partition_point(|&position| position < start);
            let block =
                |x: &Tensor<B, 3>, side| tensor_to_block(rows_from(x, first), kv_dtype, side);
            let (k, v) = view.fresh;
            layers.push((block(k, KvSide::K), block(v, KvSide::V)));
            anchors.add(view, cache);
        };
        self.run_alone(prefix, &ids, Forward::None, &mut observe)?;
        Ok(ChunkKv {
            token_ids: chunk_ids.to_vec(),
            layers,
            anchors: anchors.finish(),
        })
    }

    /// Full prefill of `ids` after `prefix`, with every layer's computed K and V observed. Returns the last hidden
    /// states that `at_end` asks for, `[rows, hidden_size]`.
    pub(super) fn run_alone(
        &mut self,
        prefix: &[u32],
        ids: &[u32],
        at_end: Forward,
        observe: Observer<'_, B>,
    ) -> Result<Option<Tensor<B, 2>>, EngineError> {
        let segments = PromptSegments {
            prefix: prefix.to_vec(),
            chunks: Vec::new(),
            question: ids.to_vec(),
        };
        let plan = FusionPlan::new(segments, Vec::new(), Mode::Full, &self.info)?;
        let capacity = plan.n_tokens();
        let loader = self.open(&plan, Vec::new());
        let request = PrefillRequest {
            plan: &plan,
            loader,
            capacity,
            at_end,
            stop: &|| None,
        };
        let fused = prefill(&mut self.context(), request, observe);
        match fused {
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
}

/// Rows `first..` of `[m, heads, head_dim]`.
fn rows_from<B: FusionBackend>(x: &Tensor<B, 3>, first: usize) -> Tensor<B, 3> {
    let [m, heads, head_dim] = x.dims();
    x.clone().slice([first..m, 0..heads, 0..head_dim])
}
