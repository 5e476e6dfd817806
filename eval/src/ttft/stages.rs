//! Where the time to first token went: the one list of stages, and its medians.

use std::time::Duration;

use ragweave_engine::FuseTimings;
use serde_json::{Map, Value};

use crate::metric::{median, ms};

/// Milliseconds of each stage under its name in results. The engine alone is measured, so nothing
/// is embedded or searched for; both stages are named to have all kinds of runs side by side.
pub(super) fn stages(times: &FuseTimings) -> Map<String, Value> {
    let stages = [
        ("queue_ms", times.queue),
        ("embed_ms", Duration::ZERO),
        ("search_ms", Duration::ZERO),
        ("load_ms", times.load),
        ("load_wait_ms", times.load_wait),
        ("probe_ms", times.probe),
        ("recompute_ms", times.recompute),
        ("first_decode_ms", times.first_decode),
    ];
    let named = stages.map(|(name, time)| (name.to_owned(), ms(time).into()));
    named.into_iter().collect()
}

/// The median of each stage over several runs, in the order of the first.
pub(super) fn medians(runs: &[&Map<String, Value>]) -> Map<String, Value> {
    let names = runs.first().into_iter().flat_map(|stages| stages.keys());
    let of = |name: &String| {
        let times = runs.iter().filter_map(|stages| stages.get(name)?.as_f64());
        (name.clone(), median(&times.collect::<Vec<_>>()).into())
    };
    names.map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_its_own_median() {
        let run = |recompute_ms, wait_ms| {
            stages(&FuseTimings {
                recompute: Duration::from_millis(recompute_ms),
                load_wait: Duration::from_millis(wait_ms),
                ..FuseTimings::default()
            })
        };
        let runs = [run(10, 3), run(30, 1), run(20, 2)];
        let medians = medians(&runs.iter().collect::<Vec<_>>());
        assert_eq!(medians["recompute_ms"], 20.0);
        assert_eq!(medians["load_wait_ms"], 2.0);
        assert_eq!(medians["embed_ms"], 0.0);
        assert!(medians.keys().eq(runs[0].keys()));
    }

    #[test]
    fn no_runs_have_no_stages() {
        assert!(medians(&[]).is_empty());
    }
}
