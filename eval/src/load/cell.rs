//! A load test as its run directory keeps it: one item per rate and mode, written whole once its
//! last request has ended, because half a load cannot be continued.

use serde::{Deserialize, Serialize};

use super::latency::Trace;
use super::rates::{Rates, around};
use crate::experiment::rotated;
use crate::mode_spec::ModeSpec;
use crate::run_dir::RunDir;

#[derive(Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "lowercase")]
pub(super) enum Item {
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

    pub(super) fn chunks_missed(&self) -> usize {
        let answers = self.requests.iter().flat_map(|trace| &trace.answer);
        answers.map(|answer| answer.chunks_missed).sum()
    }
}

pub(super) struct Log {
    pub(super) run_dir: RunDir,
    auto_rates: Option<Vec<f64>>,
    pub(super) cells: Vec<Cell>,
}

impl Log {
    /// `items`: those the directory holds already.
    pub(super) fn new(run_dir: RunDir, items: Vec<Item>) -> Self {
        let (mut auto_rates, mut cells) = (None, Vec::new());
        for item in items {
            match item {
                Item::Capacity { rates, .. } => auto_rates = Some(rates),
                Item::Cell(cell) => cells.push(cell),
            }
        }
        Self {
            run_dir,
            auto_rates,
            cells,
        }
    }

    /// The rates to offer; `None` if `auto` has not measured yet.
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

    pub(super) fn keep(&mut self, cell: Cell) -> anyhow::Result<()> {
        self.run_dir.append(&Item::Cell(cell.clone()))?;
        self.cells.push(cell);
        Ok(())
    }
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
        let Item::Cell(read) = serde_json::from_str(&text).unwrap() else {
            panic!("not a cell: {text}");
        };
        assert_eq!(read, cell);
        assert!(read.is_of(&spec("full"), 0.5));
        assert!(!read.is_of(&spec("full"), 1.0) && !read.is_of(&spec("reuse"), 0.5));
    }

    #[test]
    fn a_foreign_item_is_refused() {
        let read = serde_json::from_value::<Item>(serde_json::json!({"item": "round"}));
        let error = read.err().unwrap().to_string();
        assert!(error.contains("round"), "{error}");
    }
}
