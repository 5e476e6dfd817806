//! One prefill from outside: what it needs, what it gives, how it may end.

use std::time::Instant;

use burn::tensor::Tensor;

use super::deviation::Fresh;
use super::loader::{BadBlock, Loader, Sources};
use super::plan::FusionPlan;
use super::recompute::Run;
use super::report::FuseReport;
use super::selection::Deviation;
use super::stored::Rows;
use crate::error::EngineError;
use crate::kernel::FusionBackend;
use crate::kv::{KvCache, KvIdentity, LayerCache, PrefixCache, SpareCache};
use crate::model::{Decoder, DecoderLayer, RopeTable, row_tensor};

/// What the loop needs of the engine.
pub(crate) struct FusionContext<'a, B: FusionBackend> {
    pub decoder: &'a Decoder<B>,
    pub rope: &'a mut RopeTable<B>,
    pub prefixes: &'a mut PrefixCache<B>,
    /// Buffers to write over, where they are large enough. A prefill that stops gives its own back.
    pub spare: &'a mut SpareCache<B>,
    pub identity: &'a KvIdentity,
    /// Rows computed at once in attention and MLP: bounds activation memory.
    pub max_prefill_tokens: usize,
    /// Asked once per layer, and while stored KV is waited for: a cancelled or expired request stops here.
    pub stop: StopCheck<'a>,
}

/// A check asked between steps: `Some` stops the work with that error.
pub(crate) type StopCheck<'a> = &'a dyn Fn() -> Option<EngineError>;

/// Of which rows the last hidden state is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowWindow {
    /// The last row: the next token's logits.
    Last,
    /// All rows alive at the last layer.
    Alive,
    /// None: only K/V are wanted, and the last layer's attention and MLP are left out.
    None,
}

/// A prompt whose KV is complete.
pub(crate) struct FusedPrefill<B: FusionBackend> {
    pub cache: KvCache<B>,
    /// `[rows, hidden_size]`; absent for [`RowWindow::None`].
    pub hidden: Option<Tensor<B, 2>>,
    pub report: FuseReport,
}

/// Why a fused prefill did not finish.
pub(crate) enum FuseError {
    /// Stored KV proved bad. The sources come back for another attempt.
    BadBlock { block: BadBlock, sources: Sources },
    /// Cancelled or expired.
    Stopped(EngineError),
}

/// One layer as a watcher sees it, once the rows computed there are in the cache.
pub(crate) struct LayerView<'a, B: FusionBackend> {
    pub index: usize,
    pub layer: &'a DecoderLayer<B>,
    pub rows: &'a Rows<B>,
    /// K (before RoPE) and V of the rows: `[m, kv_heads, head_dim]`.
    pub fresh: &'a Fresh<B>,
    pub normed: &'a Tensor<B, 2>, // [m, hidden_size]
    pub cache: &'a LayerCache<B>,
}

impl<B: FusionBackend> LayerView<'_, B> {
    /// The output of attention at the last row, before its projection: `[heads * head_dim]`.
    pub(crate) fn last_attended(&self) -> Vec<f32> {
        let (device, positions) = (self.normed.device(), &self.rows.positions);
        let last = positions.len() - 1;
        let normed = self.normed.clone().select(0, row_tensor(&[last], &device));
        let rope = self.rows.rope.select(&[last], &device);
        let attended = self
            .layer
            .attend(normed, &positions[last..], &rope, self.cache);
        attended.into_data().iter::<f32>().collect()
    }
}

pub(crate) type Observer<'a, B> = &'a mut dyn FnMut(LayerView<'_, B>);

impl<B: FusionBackend> FusionContext<'_, B> {
    /// Runs a plan. `capacity` tokens are reserved, prompt included; `observe` sees each layer.
    pub(crate) fn prefill(
        &mut self,
        plan: &FusionPlan,
        loader: Loader,
        capacity: usize,
        window: RowWindow,
        observe: Observer<'_, B>,
    ) -> Result<FusedPrefill<B>, FuseError> {
        let start = Instant::now();
        let mut run = Run::start(self, plan, loader, capacity);
        // 1. What the policy must see before it can choose.
        let outcome = run
            .choose_rows(self, plan)
            // 2. Layer by layer.
            .and_then(|()| run.layers(self, window, observe));
        match outcome {
            Ok(()) => {}
            Err(interrupt) => return Err(self.give_up(run, interrupt)),
        }
        // 3. Keep an exact prefix; report, once the device has done what it was asked.
        run.keep_prefix(self, plan);
        match B::sync(self.decoder.device()) {
            Ok(()) => Ok(run.finish(plan, start)),
            Err(error) => {
                let message = format!("{error:?}");
                Err(FuseError::Stopped(EngineError::Device { message }))
            }
        }
    }

    /// Relative deviation of each candidate's stored KV from a real full prefill, with the
    /// candidates' positions: `[n_layers][candidates]`.
    pub(crate) fn true_deviation(
        &mut self,
        plan: &FusionPlan,
        loader: Loader,
    ) -> Result<(Vec<usize>, Vec<Vec<f32>>), FuseError> {
        let mut run = Run::start(self, plan, loader, plan.n_tokens());
        run.stored.keep_all();
        match run.true_deviation(self, plan, Deviation::Kv) {
            Ok(layers) => {
                self.spare.give(run.cache);
                Ok((run.candidates, layers))
            }
            Err(interrupt) => Err(self.give_up(run, interrupt)),
        }
    }

    /// Ends a run that was interrupted: its buffers are for the next one.
    fn give_up(&mut self, run: Run<B>, interrupt: Interrupt) -> FuseError {
        self.spare.give(run.cache);
        match interrupt {
            Interrupt::Stopped(error) => FuseError::Stopped(error),
            Interrupt::BadBlock(block) => {
                let (sources, _) = run.stored.finish();
                FuseError::BadBlock { block, sources }
            }
        }
    }

    pub(super) fn check_stop(&self) -> Result<(), Interrupt> {
        match (self.stop)() {
            Some(error) => Err(Interrupt::Stopped(error)),
            None => Ok(()),
        }
    }
}

/// What stops a prefill on its way.
#[derive(Debug)]
pub(super) enum Interrupt {
    BadBlock(BadBlock),
    Stopped(EngineError),
}

impl From<BadBlock> for Interrupt {
    fn from(block: BadBlock) -> Self {
        Self::BadBlock(block)
    }
}
