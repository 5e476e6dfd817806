//! How often chunks have been requested recently, to distinguish a chunk that is requested repeatedly from a scan that
//! reads each chunk once. Bounded: old entries are dropped a generation at a time.

use std::collections::HashMap;

use ragweave_store::BlobKey;

/// Chunks remembered per generation; there are two.
pub(super) const GENERATION: usize = 4096;

/// The past of one chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) touches: u32,
    /// Whether it was found not to be worth its bytes since the last touch.
    pub(super) refused: bool,
}

/// Requests for chunks, held or not.
#[derive(Debug, Default)]
pub(super) struct History {
    young: HashMap<BlobKey, Past>,
    old: HashMap<BlobKey, Past>,
}

impl History {
    /// Counts one more request.
    pub(super) fn touch(&mut self, key: &BlobKey) {
        let past = self.get(key);
        let touched = Past {
            touches: past.touches.saturating_add(1),
            refused: false,
        };
        self.put(key, touched);
    }

    /// Records that the chunk was not admitted.
    pub(super) fn refuse(&mut self, key: &BlobKey) {
        let past = self.get(key);
        self.put(
            key,
            Past {
                refused: true,
                ..past
            },
        );
    }

    pub(super) fn get(&self, key: &BlobKey) -> Past {
        let known = self.young.get(key).or_else(|| self.old.get(key));
        known.copied().unwrap_or_default()
    }

    fn put(&mut self, key: &BlobKey, past: Past) {
        if self.young.len() >= GENERATION && !self.young.contains_key(key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(*key, past);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> BlobKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(n as u64).to_le_bytes());
        BlobKey(key)
    }

    #[test]
    fn what_comes_again_is_remembered_and_what_does_not_is_forgotten() {
        let mut history = History::default();
        (0..3).for_each(|_| history.touch(&key(0)));
        history.refuse(&key(0));
        assert_eq!(
            (history.get(&key(0)).touches, history.get(&key(0)).refused),
            (3, true)
        );
        history.touch(&key(0));
        assert!(!history.get(&key(0)).refused);
        // One generation on it is still known, two on it is not.
        (1..=GENERATION).for_each(|n| history.touch(&key(n)));
        assert_eq!(history.get(&key(0)).touches, 4);
        (1..=GENERATION).for_each(|n| history.touch(&key(GENERATION + n)));
        assert_eq!(history.get(&key(0)).touches, 0);
        assert!(history.young.len() + history.old.len() <= 2 * GENERATION);
    }
}
