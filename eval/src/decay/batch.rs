//! A decay run as its run directory keeps it: the store's size at the start, then one item per
//! batch of queries.

use ragweave_server::pipeline::Answer;
use ragweave_store::{Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::metric::ms;
use crate::mode_spec::ModeSpec;
use crate::query::lookups;
use crate::run_dir::RunDir;

#[derive(Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "lowercase")]
pub(super) enum Item {
    Start { store: StoreBytes },
    Batch(Batch),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoreBytes {
    pub(super) total_bytes: u64,
    /// Of these, the KV that chunks refer to.
    pub(super) live_bytes: u64,
    /// KV records that a lookup can find.
    pub(super) blobs: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) batch: usize,
    pub(super) modes: Vec<ModeBatch>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ModeBatch {
    pub(super) spec: String,
    /// Chunks whose stored KV was used; 0 if the mode looks none up.
    pub(super) chunks_hit: usize,
    /// Chunks whose KV was looked up and could not be used.
    pub(super) chunks_missed: usize,
    pub(super) ttft_ms: Vec<f64>,
}

impl StoreBytes {
    pub(super) fn of(store: &Store) -> Result<Self, StoreError> {
        let stats = store.stats()?;
        Ok(Self {
            total_bytes: stats.total_bytes,
            live_bytes: stats.live_bytes,
            blobs: stats.blobs,
        })
    }
}

impl Batch {
    pub(super) fn new(batch: usize, modes: &[ModeSpec]) -> Self {
        let empty = |spec: &ModeSpec| ModeBatch {
            spec: spec.to_string(),
            chunks_hit: 0,
            chunks_missed: 0,
            ttft_ms: Vec::new(),
        };
        Self {
            batch,
            modes: modes.iter().map(empty).collect(),
        }
    }

    pub(super) fn chunks_missed(&self) -> usize {
        self.modes.iter().map(|mode| mode.chunks_missed).sum()
    }
}

impl ModeBatch {
    pub(super) fn add(&mut self, answer: &Answer) {
        self.add_query(lookups(&answer.started), ms(answer.finished.times.ttft));
    }

    fn add_query(&mut self, (hit, missed): (usize, usize), ttft_ms: f64) {
        self.chunks_hit += hit;
        self.chunks_missed += missed;
        self.ttft_ms.push(ttft_ms);
    }

    /// Hits over lookups; `None` if nothing was looked up.
    pub(super) fn hit_rate(&self) -> Option<f64> {
        let lookups = self.chunks_hit + self.chunks_missed;
        (lookups > 0).then(|| self.chunks_hit as f64 / lookups as f64)
    }
}

pub(super) struct Log {
    pub(super) run_dir: RunDir,
    /// The store at the start of the run.
    pub(super) before: StoreBytes,
    /// In order, without gaps.
    pub(super) batches: Vec<Batch>,
}

impl Log {
    /// `items`: those the directory holds already; without any, the run started with the store as
    /// it was `at_start`.
    pub(super) fn new(
        mut run_dir: RunDir,
        items: Vec<Item>,
        at_start: StoreBytes,
    ) -> anyhow::Result<Self> {
        let (mut before, mut batches) = (None, Vec::new());
        for item in items {
            match item {
                Item::Start { store } => before = Some(store),
                Item::Batch(batch) => batches.push(batch),
            }
        }
        if before.is_none() {
            run_dir.append(&Item::Start { store: at_start })?;
        }
        Ok(Self {
            run_dir,
            before: before.unwrap_or(at_start),
            batches,
        })
    }

    pub(super) fn keep(&mut self, batch: Batch) -> anyhow::Result<()> {
        self.run_dir.append(&Item::Batch(batch.clone()))?;
        self.batches.push(batch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_adds_up_its_queries_and_is_read_as_written() {
        let modes = ["full", "reuse"].map(|spec| spec.parse().unwrap());
        let mut batch = Batch::new(3, &modes);
        batch.modes[1].add_query((6, 0), 1.5);
        batch.modes[1].add_query((3, 3), 2.5);
        assert_eq!(batch.modes[0].hit_rate(), None);
        assert_eq!(batch.modes[1].hit_rate(), Some(0.75));
        assert_eq!(batch.modes[1].ttft_ms, [1.5, 2.5]);
        assert_eq!(batch.chunks_missed(), 3);

        let value = serde_json::to_value(Item::Batch(batch.clone())).unwrap();
        assert_eq!(
            (&value["item"], &value["batch"]),
            (&"batch".into(), &3.into())
        );
        let Ok(Item::Batch(read)) = serde_json::from_value(value) else {
            panic!("not read as a batch");
        };
        assert_eq!(read, batch);
    }
}
