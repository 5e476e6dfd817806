//! Exact KV of prompt prefixes (system text), found by exact match of all their token ids.

use burn::tensor::Tensor;

use crate::kernel::FusionBackend;

/// Per layer K (rotated at positions `0..s`) and V: `[s, kv_heads, head_dim]`.
pub(crate) type PrefixKv<B> = Vec<(Tensor<B, 3>, Tensor<B, 3>)>;

/// Tokens of all cached prefixes together. It bounds device memory, whatever system texts are sent.
const MAX_CACHED_TOKENS: usize = 8192;

/// A small least-recently-used cache, most recent first.
pub(crate) struct PrefixCache<B: FusionBackend> {
    entries: Vec<(Vec<u32>, PrefixKv<B>)>,
    max_entries: usize,
}

impl<B: FusionBackend> PrefixCache<B> {
    /// A cache of at most `max_entries` prefixes; 0 turns it off.
    pub(crate) fn new(max_entries: usize) -> Self {
        Self {
            entries: Vec::new(),
            max_entries,
        }
    }

    /// KV of exactly these ids.
    pub(crate) fn get(&mut self, ids: &[u32]) -> Option<&PrefixKv<B>> {
        let found = self.entries.iter().position(|(key, _)| key == ids)?;
        self.entries[..=found].rotate_right(1);
        self.entries.first().map(|(_, kv)| kv)
    }

    /// Whether these ids could be in the cache and are not.
    pub(crate) fn is_missing(&self, ids: &[u32]) -> bool {
        self.takes(ids) && self.entries.iter().all(|(key, _)| key != ids)
    }

    /// Keeps the KV of a prefix, unless it alone is over the bound.
    pub(crate) fn insert(&mut self, ids: &[u32], kv: PrefixKv<B>) {
        if !self.takes(ids) {
            return;
        }
        self.entries.retain(|(key, _)| key != ids);
        self.entries.insert(0, (ids.to_vec(), kv));
        self.entries.truncate(self.max_entries);
        while self.n_tokens() > MAX_CACHED_TOKENS {
            self.entries.pop();
        }
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    fn takes(&self, ids: &[u32]) -> bool {
        self.max_entries > 0 && (1..=MAX_CACHED_TOKENS).contains(&ids.len())
    }

    fn n_tokens(&self) -> usize {
        self.entries.iter().map(|(ids, _)| ids.len()).sum()
    }
}
