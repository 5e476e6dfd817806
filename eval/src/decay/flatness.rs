//! The rows of a decay run, and whether hit rate and time to first token stayed as they were: the
//! last batch of a mode beside its first. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::batch::ModeBatch;
use crate::metric::{median, percentile};
use crate::mode_spec::{ModeLabel, ModeSpec};
use crate::table::{number, percent};

/// A hit rate counts as flat up to this relative change.
const HIT_RATE_TOLERANCE: f64 = 0.01;
/// A median TTFT counts as flat up to this relative change: medians of 100 short times on a busy
/// machine differ by some percent.
const TTFT_TOLERANCE: f64 = 0.1;
/// The mode that keeps nothing that could decay. Where its times change, the machine changed; the
/// modes take turns, so it changed for all of them.
const CONTROL: &str = "full";

/// One mode in one batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) label: ModeLabel,
    pub(crate) batch: usize,
    #[serde(default)]
    pub(crate) queries: usize,
    /// Chunks hit over chunks looked up; `None` if the mode looks none up.
    pub(crate) hit_rate: Option<f64>,
    pub(crate) ttft_ms_p50: Option<f64>,
    pub(crate) ttft_ms_p95: Option<f64>,
}

impl Row {
    pub(super) fn new(spec: &ModeSpec, number: usize, batch: &ModeBatch) -> Self {
        Self {
            label: spec.label(),
            batch: number,
            queries: batch.ttft_ms.len(),
            hit_rate: batch.hit_rate(),
            ttft_ms_p50: median(&batch.ttft_ms),
            ttft_ms_p95: percentile(&batch.ttft_ms, 95.0),
        }
    }
}

/// The last batch of a mode beside its first.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flatness {
    #[serde(flatten)]
    pub(crate) label: ModeLabel,
    pub(crate) hit_rate: Option<[f64; 2]>,
    pub(crate) hit_rate_ratio: Option<f64>,
    pub(crate) ttft_ms_p50: [f64; 2],
    pub(crate) ttft_ratio: f64,
    /// The same of full prefill; `None` for itself, and where it was not asked.
    pub(crate) ttft_ratio_of_full: Option<f64>,
    /// By the hit rate, and by the TTFT ratio beside that of full prefill.
    pub(crate) is_flat: bool,
}

/// `by_mode`: the rows of each mode in the order of its batches. A mode with fewer than two
/// batches is left out.
pub(super) fn of_modes(by_mode: &[Vec<Row>]) -> Vec<Flatness> {
    let control = by_mode.iter().find(|rows| is_control(rows));
    let control = control.and_then(|rows| Flatness::new(rows, None));
    let of_full = control.map(|control| control.ttft_ratio);
    let flatness = |rows: &Vec<Row>| Flatness::new(rows, of_full.filter(|_| !is_control(rows)));
    by_mode.iter().filter_map(flatness).collect()
}

fn is_control(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.label.policy == CONTROL)
}

impl Flatness {
    fn new(rows: &[Row], ttft_ratio_of_full: Option<f64>) -> Option<Self> {
        let [first, .., last] = rows else { return None };
        let ttft_ms_p50 = [first.ttft_ms_p50?, last.ttft_ms_p50?];
        let ttft_ratio = ratio(ttft_ms_p50);
        let hit_rate: Option<[f64; 2]> = first.hit_rate.zip(last.hit_rate).map(Into::into);
        let hit_rate_ratio = hit_rate.map(ratio);
        let beside_full = ttft_ratio / ttft_ratio_of_full.unwrap_or(1.0);
        Some(Self {
            label: first.label.clone(),
            hit_rate,
            hit_rate_ratio,
            ttft_ms_p50,
            ttft_ratio,
            ttft_ratio_of_full,
            is_flat: is_near_one(hit_rate_ratio.unwrap_or(1.0), HIT_RATE_TOLERANCE)
                && is_near_one(beside_full, TTFT_TOLERANCE),
        })
    }
}

/// Last over first; 1 if both are 0.
#[expect(clippy::float_cmp, reason = "zero over zero is the case that is meant")]
fn ratio([first, last]: [f64; 2]) -> f64 {
    if first == last { 1.0 } else { last / first }
}

fn is_near_one(ratio: f64, tolerance: f64) -> bool {
    (ratio - 1.0).abs() <= tolerance
}

impl fmt::Display for Flatness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (policy, ratio) = (&self.label.policy, number(self.label.ratio, 2));
        let verdict = if self.is_flat { "flat" } else { "not flat" };
        let between = "from the first batch to the last";
        write!(f, "{policy} {ratio}: {verdict} {between}:")?;
        if let Some([first, last]) = self.hit_rate {
            let (first, last) = (percent(Some(first)), percent(Some(last)));
            let ratio = number(self.hit_rate_ratio, 3);
            write!(f, " hit rate {first}, then {last} (ratio {ratio});")?;
        }
        let ([first, last], ratio) = (self.ttft_ms_p50, self.ttft_ratio);
        write!(
            f,
            " TTFT p50 {first:.2} ms, then {last:.2} ms (ratio {ratio:.2}"
        )?;
        if let Some(of_full) = self.ttft_ratio_of_full {
            write!(f, ", full prefill {of_full:.2}")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of one query each: hits of 100 chunks looked up, and the time in milliseconds.
    fn rows(spec: &str, batches: &[(usize, f64)]) -> Vec<Row> {
        let row = |(number, &(chunks_hit, ttft_ms)): (usize, &(usize, f64))| {
            let batch = ModeBatch {
                spec: spec.to_owned(),
                chunks_hit,
                chunks_missed: if spec == CONTROL { 0 } else { 100 - chunks_hit },
                ttft_ms: vec![ttft_ms],
            };
            Row::new(&spec.parse().unwrap(), number, &batch)
        };
        batches.iter().enumerate().map(row).collect()
    }

    fn reuse(batches: &[(usize, f64)]) -> Flatness {
        of_modes(&[rows("reuse", batches)]).remove(0)
    }

    #[test]
    fn the_last_batch_stands_beside_the_first() {
        let flatness = reuse(&[(100, 2.0), (0, 9.0), (100, 2.1)]);
        assert_eq!(flatness.hit_rate_ratio, Some(1.0));
        assert_eq!(flatness.ttft_ratio, 1.05);
        assert!(flatness.is_flat);
        assert_eq!(
            flatness.to_string(),
            "reuse -: flat from the first batch to the last: hit rate 100.0 %, then 100.0 % \
             (ratio 1.000); TTFT p50 2.00 ms, then 2.10 ms (ratio 1.05)"
        );
    }

    #[test]
    fn a_change_of_either_is_not_flat() {
        let is_flat = |last| reuse(&[(100, 2.0), last]).is_flat;
        assert!(is_flat((100, 1.9)));
        assert!(!is_flat((100, 2.5)));
        assert!(!is_flat((100, 1.5)));
        assert!(!is_flat((98, 2.0)));
    }

    #[test]
    fn a_machine_that_slowed_down_for_full_prefill_too_is_not_decay() {
        let both = |full_ms, reuse_ms| {
            let reuse = rows("reuse", &[(100, 2.0), (100, reuse_ms)]);
            of_modes(&[reuse, rows(CONTROL, &[(0, 10.0), (0, full_ms)])])
        };
        let slowed = both(15.0, 3.0);
        assert_eq!(slowed[0].ttft_ratio_of_full, Some(1.5));
        assert!(slowed[0].is_flat);
        assert!(
            slowed[0]
                .to_string()
                .ends_with("(ratio 1.50, full prefill 1.50)")
        );
        assert!(!both(10.0, 3.0)[0].is_flat);
        assert!(!both(15.0, 2.0)[0].is_flat);
        // Full prefill is the measure: it has none, and no hit rate.
        assert_eq!(slowed[1].ttft_ratio_of_full, None);
        assert!(!slowed[1].is_flat);
        assert!(!slowed[1].to_string().contains("hit rate"));
        assert!(both(10.0, 2.0)[1].is_flat);
    }

    #[test]
    fn a_rate_that_was_and_stays_zero_is_flat() {
        assert!(reuse(&[(0, 2.0), (0, 2.0)]).is_flat);
        assert!(!reuse(&[(0, 2.0), (50, 2.0)]).is_flat);
        assert!(of_modes(&[rows("reuse", &[(100, 2.0)])]).is_empty());
    }
}
