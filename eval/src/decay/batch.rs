//! A decay run as its run directory keeps it: the store's size at the start, then one item per
//! batch of queries.

use anyhow::Context as _;
use ragweave_server::pipeline::Answer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::corpus::StoreBytes;
use crate::metric::ms;
use crate::mode_spec::ModeSpec;
use crate::run_dir::RunDir;

/// A line of `run.jsonl`.
#[derive(Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "lowercase")]
enum Item {
    Start { store: StoreBytes },
    Batch(Batch),
}

/// One query's figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Asked {
    /// Chunks whose stored KV was used; 0 where the mode looks none up.
    pub(super) chunks_hit: usize,
    /// Chunks whose KV was looked up and could not be used.
    pub(super) chunks_missed: usize,
    pub(super) ttft_ms: f64,
}

/// Consecutive queries under every mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Batch {
    /// From 0.
    pub(super) batch: usize,
    pub(super) modes: Vec<ModeBatch>,
}

/// Consecutive queries under one mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ModeBatch {
    pub(super) spec: String,
    pub(super) chunks_hit: usize,
    pub(super) chunks_missed: usize,
    /// Per query, in the order of asking.
    pub(super) ttft_ms: Vec<f64>,
}

impl Asked {
    pub(super) fn of(answer: &Answer) -> Self {
        let started = &answer.started;
        let lookups = |n: usize| if started.looked_up { n } else { 0 };
        Self {
            chunks_hit: lookups(started.report.chunks_hit),
            chunks_missed: lookups(started.report.chunks_missed),
            ttft_ms: ms(answer.finished.times.ttft),
        }
    }
}

impl Batch {
    /// A batch without queries.
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

    /// Adds a query under the mode of this index.
    pub(super) fn add(&mut self, mode: usize, asked: &Asked) {
        let batch = &mut self.modes[mode];
        batch.chunks_hit += asked.chunks_hit;
        batch.chunks_missed += asked.chunks_missed;
        batch.ttft_ms.push(asked.ttft_ms);
    }

    /// Lookups that missed, over all modes.
    pub(super) fn chunks_missed(&self) -> usize {
        self.modes.iter().map(|mode| mode.chunks_missed).sum()
    }
}

impl ModeBatch {
    /// Hits over lookups; `None` where nothing was looked up.
    pub(super) fn hit_rate(&self) -> Option<f64> {
        let lookups = self.chunks_hit + self.chunks_missed;
        (lookups > 0).then(|| self.chunks_hit as f64 / lookups as f64)
    }
}

/// What was measured so far, here and in the run directory.
pub(super) struct Log {
    run_dir: RunDir,
    before: StoreBytes,
    batches: Vec<Batch>,
}

impl Log {
    /// `items`: those the directory holds already; without any, the run started with the store as
    /// it was `at_start`.
    ///
    /// # Errors
    /// Names the directory whose items are not those of a decay run, or that cannot be written.
    pub(super) fn new(
        mut run_dir: RunDir,
        items: Vec<Value>,
        at_start: StoreBytes,
    ) -> anyhow::Result<Self> {
        let (mut before, mut batches) = (None, Vec::new());
        for item in items {
            let item = serde_json::from_value(item).with_context(|| {
                format!(
                    "--out {}: an item of run.jsonl is none of a decay run; choose another --out, \
                     or delete it",
                    run_dir.path().display()
                )
            })?;
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

    pub(super) fn run_dir(&self) -> &RunDir {
        &self.run_dir
    }

    /// The store at the start of the run.
    pub(super) fn before(&self) -> StoreBytes {
        self.before
    }

    /// In order, without gaps.
    pub(super) fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// Keeps a whole batch.
    ///
    /// # Errors
    /// Where it cannot be written.
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
        let asked = |chunks_hit, ttft_ms| Asked {
            chunks_hit,
            chunks_missed: 6 - chunks_hit,
            ttft_ms,
        };
        batch.add(1, &asked(6, 1.5));
        batch.add(1, &asked(3, 2.5));
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
