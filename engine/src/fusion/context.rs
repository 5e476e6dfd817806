//! What the layers need from the engine.

use crate::kernel::FusionBackend;
use crate::kv::{KvCache, KvIdentity, PrefixCache, SpareCache};
use crate::model::{Decoder, RopeTable};

/// The engine's parts as passes over the layers use them.
pub(crate) struct FusionContext<'a, B: FusionBackend> {
    pub decoder: &'a Decoder<B>,
    pub rope: &'a mut RopeTable<B>,
    pub prefixes: &'a mut PrefixCache<B>,
    /// Buffers to write over, if they are large enough. A prefill that stops returns its own here.
    pub spare: &'a mut SpareCache<B>,
    pub identity: &'a KvIdentity,
    /// Rows computed at once in attention and MLP; this bounds activation memory.
    pub max_prefill_tokens: usize,
}

impl<B: FusionBackend> FusionContext<'_, B> {
    pub(super) fn n_layers(&self) -> usize {
        self.decoder.config().num_hidden_layers
    }

    /// A fresh cache for `capacity` tokens.
    pub(super) fn new_cache(&self, capacity: usize) -> KvCache<B> {
        let decoder = self.decoder;
        KvCache::new(
            decoder.config(),
            capacity,
            decoder.dtype(),
            decoder.device(),
        )
    }

    /// A cache for `capacity` tokens: the spare one if it is large enough.
    pub(super) fn take_cache(&mut self, capacity: usize) -> KvCache<B> {
        let spare = self.spare.take(capacity, self.decoder.device());
        spare.unwrap_or_else(|| self.new_cache(capacity))
    }
}
