//! Which chunks stay in memory: GreedyDual-Size-Frequency (Cherkasova 1998) with an admission rule that a single
//! request does not pass. Pure: no lock, and only a logical clock.
//!
//! A chunk's priority is `clock + requests x cost / bytes`, where cost is the time its bytes took to read. The chunk
//! with the lowest priority is evicted first, and the clock rises to that priority, so that chunks that were popular
//! long ago do not stay forever. A chunk requested once may fill free space but evicts no other, so a scan over the
//! corpus leaves the tier unchanged.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ragweave_store::BlobKey;

use super::history::History;

/// Requests that a chunk must have had before it may replace another.
const REQUESTS_TO_EVICT: u32 = 2;

/// Blocks by chunk and layer, within a budget.
pub(super) struct Shelf<V> {
    budget: u64,
    bytes: u64,
    clock: f64,
    chunks: HashMap<BlobKey, Held<V>>,
    /// The same keys, lowest priority first.
    order: BTreeSet<(Priority, BlobKey)>,
    history: History,
}

/// One chunk, or the layers of it that were read.
pub(super) struct Held<V> {
    layers: BTreeMap<usize, V>,
    bytes: u64,
    /// Nanoseconds its bytes took to read.
    cost: u64,
    requests: u32,
    priority: Priority,
}

/// A number that is never negative or NaN, with a total order: the bits of such floats sort like their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Priority(u64);

impl Priority {
    fn of(clock: f64, requests: u32, cost: u64, bytes: u64) -> Self {
        let worth = f64::from(requests) * cost as f64 / bytes.max(1) as f64;
        Self((clock + worth).to_bits())
    }

    fn value(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl<V: Clone> Shelf<V> {
    pub(super) fn new(budget: u64) -> Self {
        Self {
            budget,
            bytes: 0,
            clock: 0.0,
            chunks: HashMap::new(),
            order: BTreeSet::new(),
            history: History::default(),
        }
    }

    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    /// Bytes held; never more than the budget.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Chunks held, whole or in part.
    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Counts a request for the chunk, whether or not it is held.
    pub(super) fn touch(&mut self, key: &BlobKey) {
        if self.budget == 0 {
            return;
        }
        self.history.touch(key);
        if let Some(held) = self.chunks.get_mut(key) {
            held.requests = held.requests.saturating_add(1);
            self.reorder(key);
        }
    }

    pub(super) fn get(&self, key: &BlobKey, layer: usize) -> Option<&V> {
        self.chunks.get(key)?.layers.get(&layer)
    }

    /// Layers held of a chunk.
    pub(super) fn n_layers(&self, key: &BlobKey) -> usize {
        self.chunks.get(key).map_or(0, |held| held.layers.len())
    }

    /// Admits a block of this many bytes if it is worth more than the blocks evicted for it; returns the evicted ones.
    pub(super) fn offer(
        &mut self,
        key: &BlobKey,
        layer: usize,
        (block, bytes): (&V, u64),
        cost: u64,
    ) -> Vec<Held<V>> {
        let past = self.history.get(key);
        if past.refused || bytes > self.budget || self.get(key, layer).is_some() {
            return Vec::new();
        }
        let mut candidate = self.sums(key);
        candidate.requests = candidate.requests.max(past.touches);
        candidate.bytes += bytes;
        candidate.cost += cost;
        let Some(victims) = self.victims(key, &candidate, bytes) else {
            self.refuse(key, &candidate);
            return Vec::new();
        };
        let evicted: Vec<Held<V>> = victims
            .iter()
            .filter_map(|victim| self.evict(victim))
            .collect();
        let held = self.chunks.entry(*key).or_insert_with(Held::new);
        held.layers.insert(layer, block.clone());
        (held.bytes, held.cost) = (candidate.bytes, candidate.cost);
        held.requests = candidate.requests;
        self.bytes += bytes;
        self.reorder(key);
        evicted
    }

    /// Removes a chunk.
    pub(super) fn remove(&mut self, key: &BlobKey) -> Option<Held<V>> {
        let held = self.chunks.remove(key)?;
        self.order.remove(&(held.priority, *key));
        self.bytes -= held.bytes;
        Some(held)
    }

    /// The chunks with the lowest priorities, all below the candidate's, that make room for `bytes`; `None` if there
    /// are not enough, or the candidate may not evict any.
    fn victims(&self, key: &BlobKey, candidate: &Sums, bytes: u64) -> Option<Vec<BlobKey>> {
        let mut missing = (self.bytes + bytes).saturating_sub(self.budget);
        if missing == 0 {
            return Some(Vec::new());
        }
        if candidate.requests < REQUESTS_TO_EVICT {
            return None;
        }
        let priority = candidate.priority(self.clock);
        let mut victims = Vec::new();
        for (_, victim) in self
            .order
            .iter()
            .take_while(|(lower, _)| *lower < priority)
            .filter(|(_, victim)| victim != key)
        {
            victims.push(*victim);
            missing = missing.saturating_sub(self.chunks[victim].bytes);
            if missing == 0 {
                return Some(victims);
            }
        }
        None
    }

    /// A chunk that is requested again and again must be admitted eventually: each time it is not, the clock rises to
    /// its priority.
    fn refuse(&mut self, key: &BlobKey, candidate: &Sums) {
        if candidate.requests >= REQUESTS_TO_EVICT {
            self.clock = self.clock.max(candidate.priority(self.clock).value());
        }
        self.history.refuse(key);
    }

    fn evict(&mut self, key: &BlobKey) -> Option<Held<V>> {
        let held = self.remove(key)?;
        self.clock = self.clock.max(held.priority.value());
        Some(held)
    }

    fn sums(&self, key: &BlobKey) -> Sums {
        self.chunks
            .get(key)
            .map_or_else(Sums::default, |held| Sums {
                bytes: held.bytes,
                cost: held.cost,
                requests: held.requests,
            })
    }

    /// Moves a held chunk to the position of its new priority.
    fn reorder(&mut self, key: &BlobKey) {
        let priority = self.sums(key).priority(self.clock);
        if let Some(held) = self.chunks.get_mut(key) {
            self.order.remove(&(held.priority, *key));
            held.priority = priority;
            self.order.insert((priority, *key));
        }
    }
}

impl<V> Held<V> {
    fn new() -> Self {
        Self {
            layers: BTreeMap::new(),
            bytes: 0,
            cost: 0,
            requests: 0,
            priority: Priority(0),
        }
    }
}

/// The figures that determine a chunk's priority.
#[derive(Default)]
struct Sums {
    bytes: u64,
    cost: u64,
    requests: u32,
}

impl Sums {
    fn priority(&self, clock: f64) -> Priority {
        Priority::of(clock, self.requests, self.cost, self.bytes)
    }
}

#[cfg(test)]
mod tests;
