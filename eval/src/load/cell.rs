//! A load test as its run directory keeps it: one item per rate and mode, written whole once its
//! last request has ended, because half a load cannot be continued.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::latency::Trace;
use super::rates::{Rates, around};
use crate::mode_spec::ModeSpec;
use crate::rounds::rotated;
use crate::run_dir::RunDir;

/// A line of `run.jsonl`.
#[derive(Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "lowercase")]
enum Item {
    /// The rates that `--rates auto` chose.
    Capacity {
        spec: String,
        requests_per_s: f64,
        rates: Vec<f64>,
    },
    Cell(Cell),
}

/// One mode under one rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Cell {
    spec: String,
    rate: f64,
    /// In order of arrival.
    pub(super) requests: Vec<Trace>,
}

impl Cell {
    pub(super) fn new(spec: &ModeSpec, rate: f64, requests: Vec<Trace>) -> Self {
        Self {
            spec: spec.to_string(),
            rate,
            requests,
        }
    }

    /// Whether this is the cell of that mode and rate.
    #[expect(
        clippy::float_cmp,
        reason = "the very number that was offered, not one near it"
    )]
    pub(super) fn is_of(&self, spec: &ModeSpec, rate: f64) -> bool {
        self.spec == spec.to_string() && self.rate == rate
    }

    /// Lookups that missed, over all requests.
    pub(super) fn chunks_missed(&self) -> usize {
        let answers = self.requests.iter().flat_map(|trace| &trace.answer);
        answers.map(|answer| answer.chunks_missed).sum()
    }
}

/// What was measured so far, here and in the run directory.
pub(super) struct Log {
    run_dir: RunDir,
    auto_rates: Option<Vec<f64>>,
    cells: Vec<Cell>,
}

impl Log {
    /// `items`: those the directory holds already.
    ///
    /// # Errors
    /// Names the directory whose items are not those of a load test.
    pub(super) fn new(run_dir: RunDir, items: Vec<Value>) -> anyhow::Result<Self> {
        let (mut auto_rates, mut cells) = (None, Vec::new());
        for item in items {
            match parse(run_dir.path(), item)? {
                Item::Capacity { rates, .. } => auto_rates = Some(rates),
                Item::Cell(cell) => cells.push(cell),
            }
        }
        Ok(Self {
            run_dir,
            auto_rates,
            cells,
        })
    }

    pub(super) fn run_dir(&self) -> &RunDir {
        &self.run_dir
    }

    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The rates to offer; `None` where `auto` has not measured yet.
    pub(super) fn rates(&self, wanted: &Rates) -> Option<Vec<f64>> {
        match wanted {
            Rates::Given(rates) => Some(rates.clone()),
            Rates::Auto => self.auto_rates.clone(),
        }
    }

    /// What is still to be measured, in order: rate by rate, each beginning with another mode.
    pub(super) fn missing(&self, modes: &[ModeSpec], rates: &[f64]) -> Vec<(ModeSpec, f64)> {
        let all = rates.iter().enumerate().flat_map(|(round, &rate)| {
            rotated(modes.len(), round).map(move |index| (modes[index].clone(), rate))
        });
        let is_done = |spec: &ModeSpec, rate| self.cells.iter().any(|cell| cell.is_of(spec, rate));
        all.filter(|(spec, rate)| !is_done(spec, *rate)).collect()
    }

    /// Chooses the rates of `auto` and keeps them.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub(super) fn keep_capacity(
        &mut self,
        spec: &ModeSpec,
        requests_per_s: f64,
    ) -> anyhow::Result<Vec<f64>> {
        let rates = around(requests_per_s);
        self.run_dir.append(&Item::Capacity {
            spec: spec.to_string(),
            requests_per_s,
            rates: rates.clone(),
        })?;
        self.auto_rates = Some(rates.clone());
        Ok(rates)
    }

    /// Keeps what was measured.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn keep(&mut self, cell: Cell) -> anyhow::Result<()> {
        self.run_dir.append(&Item::Cell(cell.clone()))?;
        self.cells.push(cell);
        Ok(())
    }
}

fn parse(run_dir: &Path, item: Value) -> anyhow::Result<Item> {
    serde_json::from_value(item).with_context(|| {
        format!(
            "--out {}: an item of run.jsonl is none of a load test; choose another --out, or \
             delete it",
            run_dir.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> ModeSpec {
        text.parse().unwrap()
    }

    #[test]
    fn an_item_is_read_as_it_was_written() {
        let requests = vec![Trace {
            at_ms: 1.5,
            answer: None,
        }];
        let cell = Cell::new(&spec("full"), 0.5, requests);
        let text = serde_json::to_string(&Item::Cell(cell.clone())).unwrap();
        assert_eq!(
            text,
            r#"{"item":"cell","spec":"full","rate":0.5,"requests":[{"at_ms":1.5,"answer":null}]}"#
        );
        let value = serde_json::from_str(&text).unwrap();
        let Item::Cell(read) = parse("runs/a".as_ref(), value).unwrap() else {
            panic!("not a cell: {text}");
        };
        assert_eq!(read, cell);
        assert!(read.is_of(&spec("full"), 0.5));
        assert!(!read.is_of(&spec("full"), 1.0) && !read.is_of(&spec("reuse"), 0.5));
    }

    #[test]
    fn a_foreign_item_names_the_directory() {
        let error = parse("runs/a".as_ref(), serde_json::json!({"item": "round"})).err();
        let error = format!("{:#}", error.unwrap());
        assert!(
            error.contains("runs/a") && error.contains("round"),
            "{error}"
        );
    }
}
