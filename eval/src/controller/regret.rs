//! How much slower auto was than the better of full and blend. Pure.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Serialize;

use super::cell::Cell;
use super::round::Round;
use crate::metric::{bootstrap_ci, median};

/// Auto may be this much slower. A cell is at fault where the lower end of the regret's interval is above this, and passes
/// only where the upper end is not.
const MAX_REGRET: f64 = 0.03;
/// Full prefill wins where blend is this much slower, at the lower end of that interval: the controller takes an exact
/// plan over one that saves less.
const FULL_WINS: f64 = 0.01;

/// Why a cell does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
pub(super) enum Fault {
    #[strum(serialize = "slower than it may be")]
    Slower,
    #[strum(serialize = "blends where full prefill wins")]
    BlendsWhereFullWins,
    /// The interval holds more than is allowed: it would pass on luck.
    #[strum(serialize = "not shown to be fast enough: more rounds")]
    NotShown,
}

/// The outcome of one cell. Times are medians.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    #[serde(flatten)]
    pub(super) cell: Cell,
    pub(super) rounds: usize,
    pub(super) full_ms: f64,
    pub(super) blend_ms: f64,
    pub(super) auto_ms: f64,
    pub(super) predicted_ms: f64,
    /// What auto chose, and in how many rounds.
    pub(super) chosen: BTreeMap<String, usize>,
    /// Rounds in which it chose what computes as full prefill does.
    exact_rounds: usize,
    /// Mean of auto / better - 1 over the rounds, with its 95 % interval; the better of full and blend by median.
    pub(super) regret: f64,
    pub(super) regret_ci: (f64, f64),
    /// The 95 % interval of blend / full - 1.
    pub(super) blend_over_full_ci: (f64, f64),
}

impl Outcome {
    pub(super) fn new(cell: Cell, rounds: &[Round], seed: u64) -> anyhow::Result<Self> {
        let of = |time: fn(&Round) -> f64| -> anyhow::Result<f64> {
            let times: Vec<f64> = rounds.iter().map(time).collect();
            median(&times).context("a cell without a round")
        };
        let (full_ms, blend_ms) = (of(|round| round.full_ms)?, of(|round| round.blend_ms)?);
        let better = |round: &Round| match full_ms <= blend_ms {
            true => round.full_ms,
            false => round.blend_ms,
        };
        let all = rounds.iter();
        let regrets = all.clone().map(|round| round.auto_ms / better(round) - 1.0);
        let losses = all.map(|round| round.blend_ms / round.full_ms - 1.0);
        let (regrets, losses): (Vec<f64>, Vec<f64>) = (regrets.collect(), losses.collect());
        let interval =
            |shares: &[f64]| bootstrap_ci(shares, seed).context("a time is not a number");
        let mut chosen = BTreeMap::new();
        for round in rounds {
            *chosen.entry(round.chosen.clone()).or_insert(0) += 1;
        }
        Ok(Self {
            cell,
            rounds: rounds.len(),
            full_ms,
            blend_ms,
            auto_ms: of(|round| round.auto_ms)?,
            predicted_ms: of(|round| round.predicted_ms)?,
            chosen,
            exact_rounds: rounds.iter().filter(|round| round.is_exact).count(),
            regret: regrets.iter().sum::<f64>() / regrets.len() as f64,
            regret_ci: interval(&regrets)?,
            blend_over_full_ci: interval(&losses)?,
        })
    }

    /// What keeps the cell from passing; `None` if auto is shown to do as it should.
    pub(super) fn fault(&self) -> Option<Fault> {
        let blends = 2 * self.exact_rounds < self.rounds;
        if self.regret_ci.0 > MAX_REGRET {
            Some(Fault::Slower)
        } else if self.blend_over_full_ci.0 > FULL_WINS && blends {
            Some(Fault::BlendsWhereFullWins)
        } else if self.regret_ci.1 > MAX_REGRET {
            Some(Fault::NotShown)
        } else {
            None
        }
    }
}

impl Fault {
    /// Whether more rounds cannot clear the cell of it.
    pub(super) fn is_certain(self) -> bool {
        self != Self::NotShown
    }
}

#[cfg(test)]
mod tests {
    use ragweave_engine::Ratio;

    use super::super::cell::Tier;
    use super::*;

    const CELL: Cell = Cell {
        chunks: 2,
        chunk_tokens: 128,
        ratio: Ratio::of_percent(15),
        tier: Tier::Memory,
    };

    /// Rounds of full, blend and auto in ms, each a little slower than the one before.
    fn outcome(times: [f64; 3], chosen: &str) -> Outcome {
        let rounds: Vec<Round> = (0..7)
            .map(|round| {
                let slower = 1.0 + 0.01 * f64::from(round);
                let [full_ms, blend_ms, auto_ms] = times.map(|time| time * slower);
                Round {
                    full_ms,
                    blend_ms,
                    auto_ms,
                    chosen: chosen.to_owned(),
                    predicted_ms: auto_ms,
                    is_exact: chosen == "full",
                }
            })
            .collect();
        Outcome::new(CELL, &rounds, 1).unwrap()
    }

    #[test]
    fn the_better_of_both_is_what_auto_is_held_against() {
        let good = outcome([100.0, 40.0, 41.0], "hkvd@1:0.15");
        assert!((good.regret - 0.025).abs() < 1e-9, "{}", good.regret);
        assert_eq!(good.fault(), None);
        assert_eq!(good.chosen["hkvd@1:0.15"], 7);
        assert!((good.full_ms - 103.0).abs() < 1e-9, "the median");

        let slow = outcome([100.0, 40.0, 44.0], "hkvd@1:0.15");
        assert_eq!(slow.fault(), Some(Fault::Slower));
        assert_eq!(outcome([100.0, 120.0, 101.0], "full").fault(), None);
        let wrong = outcome([100.0, 102.0, 102.0], "hkvd@1:0.15");
        assert_eq!(wrong.fault(), Some(Fault::BlendsWhereFullWins));
        assert_eq!(outcome([100.0, 100.5, 100.5], "hkvd@1:0.15").fault(), None);
    }

    /// Rounds of full 100 ms and blend 200 ms; auto prefills but for one round, in which it blends.
    fn with_one_slip(slip_ms: f64, rounds: usize) -> Outcome {
        let round = |n: usize| Round {
            full_ms: 100.0,
            blend_ms: 200.0,
            auto_ms: if n == 0 {
                slip_ms
            } else {
                99.0 + n as f64 % 3.0
            },
            chosen: if n == 0 { "hkvd@1:0.45" } else { "full" }.to_owned(),
            predicted_ms: 100.0,
            is_exact: n > 0,
        };
        let rounds: Vec<Round> = (0..rounds).map(round).collect();
        Outcome::new(CELL, &rounds, 1).unwrap()
    }

    #[test]
    fn a_cell_does_not_pass_on_luck() {
        // One of six rounds took twice the time: 16.6 % on average, and the interval begins below zero.
        let lucky = with_one_slip(200.0, 6);
        assert!(
            lucky.regret > 0.16 && lucky.regret_ci.0 < MAX_REGRET,
            "{lucky:?}"
        );
        assert_eq!(lucky.fault(), Some(Fault::NotShown));
        assert!(!Fault::NotShown.is_certain() && Fault::Slower.is_certain());
        assert_eq!(with_one_slip(101.0, 6).fault(), None);
    }

    #[test]
    fn rounds_that_were_faster_do_not_make_up_for_one_that_was_slow() {
        let mut rounds: Vec<f64> = vec![80.0; 3];
        rounds.extend([160.0; 1]);
        let rounds: Vec<Round> = rounds
            .into_iter()
            .map(|auto_ms| Round {
                full_ms: 100.0,
                blend_ms: 100.0,
                auto_ms,
                chosen: "full".to_owned(),
                predicted_ms: 100.0,
                is_exact: true,
            })
            .collect();
        let outcome = Outcome::new(CELL, &rounds, 1).unwrap();
        assert!(outcome.regret.abs() < 1e-9, "{}", outcome.regret);
        assert_eq!(outcome.fault(), Some(Fault::NotShown));
    }

    #[test]
    fn no_rounds_are_no_outcome() {
        assert!(Outcome::new(CELL, &[], 1).is_err());
    }
}
