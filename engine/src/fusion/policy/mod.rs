//! Which rows of loaded chunks are recomputed: one file per policy, behind one trait.
//!
//! To add a policy, write its file and add it to [`Policy`] and [`selector`].

mod all;
mod first_k;
mod hkvd;
mod random;

use std::ops::Range;

use crate::error::EngineError;

/// A selection policy with its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// High KV deviation (CacheBlend): all rows run below `check_layer`; there fresh and stored KV
    /// are compared and the rows that deviate most go on.
    Hkvd {
        check_layer: usize,
        deviation: Deviation,
        schedule: Schedule,
    },
    /// The first tokens of each chunk (EPIC, arXiv 2410.15332). No check layer.
    FirstK,
    /// Uniformly random rows: the baseline any policy has to beat.
    Random { seed: u64 },
    /// Every row of the prompt, exact ones too: the upper limit, equal to full prefill.
    All,
}

/// Which tensors the deviation compares, as a squared L2 distance per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deviation {
    K,
    V,
    Kv,
}

/// How many rows stay alive from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// The rows picked at the check layer.
    Fixed,
    /// CacheBlend 4.3: linear from 1.5 k at the check layer to 0.5 k at the last.
    Gradual,
}

impl Policy {
    /// The policy's name as flags and reports spell it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hkvd { .. } => "hkvd",
            Self::FirstK => "first-k",
            Self::Random { .. } => "random",
            Self::All => "all",
        }
    }

    pub(crate) fn validate(&self, n_layers: usize) -> Result<(), EngineError> {
        match self {
            Self::Hkvd { check_layer, .. } if *check_layer >= n_layers => {
                Err(EngineError::InvalidRequest {
                    field: "check_layer",
                    message: format!("{check_layer} is too deep for a model of {n_layers} layers"),
                })
            }
            _ => Ok(()),
        }
    }
}

/// The rows a policy may choose from: non-exact chunks whose KV is loaded.
pub(crate) struct Candidates {
    /// Positions of each such chunk, ascending.
    pub chunks: Vec<Range<usize>>,
    pub prompt_tokens: usize,
    pub n_layers: usize,
    pub ratio: f64,
}

impl Candidates {
    /// All candidate rows, ascending.
    pub fn rows(&self) -> Vec<usize> {
        self.chunks.iter().cloned().flatten().collect()
    }

    /// `k = ceil(ratio x candidates)`.
    pub fn budget(&self) -> usize {
        let n: usize = self.chunks.iter().map(Range::len).sum();
        share(self.ratio, n)
    }
}

/// Decides which rows are alive at each layer.
pub(crate) trait RowSelector {
    /// The first layer at which the stored KV of non-exact chunks is placed.
    fn first_loaded_layer(&self) -> usize;

    /// Rows alive at the input of layer 0, ascending. May hold exact rows; the question and missed
    /// chunks are added by the caller.
    fn initial_rows(&self) -> Vec<usize>;

    /// The comparison the policy wants at this layer, of the rows alive at its input.
    fn deviation_at(&self, layer: usize) -> Option<Deviation>;

    /// Of `rows` (ascending, with their deviation) those that go on through this layer, ascending.
    fn keep(&self, layer: usize, rows: &[usize], deviation: &[f32]) -> Vec<usize>;
}

pub(crate) fn selector(policy: &Policy, candidates: Candidates) -> Box<dyn RowSelector> {
    match policy {
        Policy::Hkvd {
            check_layer,
            deviation,
            schedule,
        } => Box::new(hkvd::Hkvd::new(
            *check_layer,
            *deviation,
            *schedule,
            candidates,
        )),
        Policy::FirstK => Box::new(Fixed::new(first_k::rows(&candidates))),
        Policy::Random { seed } => Box::new(Fixed::new(random::rows(&candidates, *seed))),
        Policy::All => Box::new(Fixed::new(all::rows(&candidates))),
    }
}

/// Nothing is recomputed: plain reuse.
pub(crate) fn none() -> Box<dyn RowSelector> {
    Box::new(Fixed::new(Vec::new()))
}

/// Rows chosen before the first layer and kept through all of them.
struct Fixed {
    rows: Vec<usize>,
}

impl Fixed {
    fn new(rows: Vec<usize>) -> Self {
        Self { rows }
    }
}

impl RowSelector for Fixed {
    fn first_loaded_layer(&self) -> usize {
        0
    }

    fn initial_rows(&self) -> Vec<usize> {
        self.rows.clone()
    }

    fn deviation_at(&self, _layer: usize) -> Option<Deviation> {
        None
    }

    fn keep(&self, _layer: usize, rows: &[usize], _deviation: &[f32]) -> Vec<usize> {
        rows.to_vec()
    }
}

/// `ceil(ratio x n)`, at most `n`.
fn share(ratio: f64, n: usize) -> usize {
    ((ratio * n as f64).ceil() as usize).min(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(ratio: f64) -> Candidates {
        Candidates {
            chunks: vec![10..20, 30..35],
            prompt_tokens: 40,
            n_layers: 4,
            ratio,
        }
    }

    #[test]
    fn budget_rounds_up_over_all_candidates() {
        assert_eq!(candidates(0.1).budget(), 2);
        assert_eq!(candidates(0.2).budget(), 3);
        assert_eq!(candidates(0.01).budget(), 1);
        assert_eq!(candidates(1.0).budget(), 15);
    }

    #[test]
    fn first_k_takes_a_share_of_each_chunk() {
        assert_eq!(first_k::rows(&candidates(0.2)), [10, 11, 30]);
        assert_eq!(first_k::rows(&candidates(0.21)), [10, 11, 12, 30, 31]);
    }

    #[test]
    fn random_is_seeded_and_spends_the_budget_on_distinct_candidates() {
        let rows = random::rows(&candidates(0.4), 7);
        assert_eq!(rows.len(), 6);
        assert!(rows.windows(2).all(|pair| pair[0] < pair[1]), "{rows:?}");
        assert!(
            rows.iter()
                .all(|row| (10..20).contains(row) || (30..35).contains(row))
        );
        assert_eq!(rows, random::rows(&candidates(0.4), 7));
        assert_ne!(rows, random::rows(&candidates(0.4), 8));
    }

    #[test]
    fn hkvd_keeps_the_most_deviating_and_breaks_ties_downwards() {
        let policy = Policy::Hkvd {
            check_layer: 1,
            deviation: Deviation::Kv,
            schedule: Schedule::Fixed,
        };
        let selector = selector(&policy, candidates(0.2));
        let rows = candidates(0.2).rows();
        let mut deviation = vec![0.0; rows.len()];
        deviation[12] = 5.0; // row 32
        deviation[3] = 2.0; // row 13
        deviation[7] = 2.0; // row 17
        deviation[9] = 2.0; // row 19
        assert_eq!(selector.keep(1, &rows, &deviation), [13, 17, 32]);
        deviation[0] = -f32::NAN; // row 10
        assert_eq!(selector.keep(1, &rows, &deviation), [10, 13, 32]);
        assert_eq!(selector.initial_rows(), rows);
        assert_eq!(selector.first_loaded_layer(), 1);
    }

    #[test]
    fn gradual_runs_from_one_and_a_half_k_to_half_k() {
        let policy = Policy::Hkvd {
            check_layer: 1,
            deviation: Deviation::K,
            schedule: Schedule::Gradual,
        };
        let selector = selector(&policy, candidates(0.25)); // k = 4
        let mut rows = candidates(0.25).rows();
        let counts: Vec<usize> = (1..4)
            .map(|layer| {
                let deviation: Vec<f32> = rows.iter().map(|&row| row as f32).collect();
                rows = selector.keep(layer, &rows, &deviation);
                rows.len()
            })
            .collect();
        assert_eq!(counts, [6, 4, 2]);
        assert_eq!(rows, [33, 34]);
    }
}
