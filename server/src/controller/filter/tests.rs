//! The filter, learning from times whose true rates are known.

use super::super::job::COMPUTING;
use super::*;

const PRIORS: [Prior; 2] = [
    Prior {
        name: "fixed",
        seconds: 1e-3,
        sd: 1.0,
        shared: 0.2,
    },
    Prior {
        name: "unit",
        seconds: 1e-6,
        sd: 1.0,
        shared: 1.0,
    },
];

fn learned(times: impl IntoIterator<Item = ([f64; 2], f64)>) -> Filter {
    let mut filter = Filter::new(&PRIORS, COMPUTING);
    for (amounts, seconds) in times {
        filter.learn(&amounts, &[], seconds);
    }
    filter
}

/// 20 ms and 5 us a unit: far from the priors.
fn truth(units: f64) -> f64 {
    20e-3 + 5e-6 * units
}

#[test]
fn two_sizes_tell_the_fixed_part_from_the_rate() {
    let sizes = [1e3, 2e4].into_iter().cycle().take(8);
    let filter = learned(sizes.map(|units| ([1.0, units], truth(units))));
    for units in [1e3, 5e3, 2e4, 8e4] {
        let foreseen = filter.estimate(&[1.0, units], &[]).seconds;
        assert!(
            (foreseen / truth(units) - 1.0).abs() < 0.05,
            "{units}: {foreseen}"
        );
    }
}

#[test]
fn one_accident_moves_little_and_a_change_is_followed() {
    let sizes = [1e3, 2e4].into_iter().cycle().take(20);
    let mut filter = learned(sizes.map(|units| ([1.0, units], truth(units))));
    let foreseen = |filter: &Filter| filter.estimate(&[1.0, 1e4], &[]).seconds;
    let before = foreseen(&filter);
    filter.learn(&[1.0, 1e4], &[], before * 20.0);
    assert!(
        foreseen(&filter) < before * 1.15,
        "{} {before}",
        foreseen(&filter)
    );
    for _ in 0..6 {
        filter.learn(&[1.0, 1e4], &[], before * 2.0);
    }
    let after = foreseen(&filter);
    assert!((after / before - 2.0).abs() < 0.1, "{after} {before}");
    // The machine got slower, not this size: another size is expected slower too.
    let other = filter.estimate(&[1.0, 1e3], &[]).seconds;
    assert!((other / truth(1e3) - 2.0).abs() < 0.2, "{other}");
}

#[test]
fn a_correction_holds_for_its_plans_alone() {
    let mut filter = Filter::new(&PRIORS, COMPUTING);
    let [plain, odd] = [["plain".to_owned()], ["odd".to_owned()]];
    for _ in 0..20 {
        filter.learn(&[1.0, 1e4], &plain, truth(1e4));
        filter.learn(&[1.0, 1e4], &odd, truth(1e4) * 1.1);
    }
    let of = |keys: &[String]| filter.estimate(&[1.0, 1e4], keys);
    assert!((of(&odd).seconds / of(&plain).seconds - 1.1).abs() < 0.01);
    assert!(of(&odd).unsure < of(&["new".to_owned()]).unsure / 2.0);
}

#[test]
fn corrections_are_bounded_and_what_is_no_time_is_not_learned() {
    let mut filter = Filter::new(&PRIORS, COMPUTING);
    for i in 0..3 * MAX_CORRECTIONS {
        filter.learn(
            &[1.0, 1e4],
            &[format!("plan {i}"), "all".to_owned()],
            truth(1e4),
        );
    }
    assert_eq!(filter.corrections.len(), MAX_CORRECTIONS);
    assert_eq!(filter.mean.len(), PRIORS.len() + MAX_CORRECTIONS);
    let states: std::collections::BTreeSet<usize> = filter
        .corrections
        .values()
        .map(|known| known.state)
        .collect();
    assert_eq!(states.len(), MAX_CORRECTIONS);
    assert!(
        filter.corrections.contains_key("all"),
        "in use all the time"
    );
    for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(filter.learn(&[1.0, 1e4], &[], seconds), None);
    }
    assert_eq!(filter.learn(&[0.0, 0.0], &[], 1.0), None);
}

#[test]
fn a_filter_is_restored_as_it_was_saved() {
    let mut filter = Filter::new(&PRIORS, COMPUTING);
    let keys = ["odd".to_owned()];
    for units in [1e3, 2e4].into_iter().cycle().take(20) {
        filter.learn(&[1.0, units], &keys, truth(units) * 1.2);
    }
    let restored = Filter::restore(&PRIORS, COMPUTING, &filter.save()).unwrap();
    let of = |filter: &Filter| filter.estimate(&[1.0, 7e3], &keys).seconds;
    assert!((of(&restored) / of(&filter) - 1.0).abs() < 1e-9);
    // What was learned is trusted: one more time moves it little.
    let mut moved = restored.clone();
    moved.learn(&[1.0, 7e3], &keys, of(&restored) * 1.05);
    assert!(of(&moved) < of(&restored) * 1.05);

    let mut bad = filter.save();
    bad.rates[0].value = f64::NAN;
    assert!(Filter::restore(&PRIORS, COMPUTING, &bad).is_none());
    bad.rates.pop();
    assert!(Filter::restore(&PRIORS, COMPUTING, &bad).is_none());
}

#[test]
fn making_room_for_a_correction_leaves_the_others_where_they_are() {
    let key = |i: usize| format!("plan {i}");
    let mut filter = learned((0..20).map(|_| ([1.0, 1e4], truth(1e4))));
    for i in 0..MAX_CORRECTIONS {
        filter.learn(&[1.0, 1e4], &[key(i)], truth(1e4));
    }
    let last = [key(MAX_CORRECTIONS - 1)];
    let before = filter.correction(&last);
    let keys = [last[0].clone(), "new".to_owned()];
    for _ in 0..5 {
        filter.learn(&[1.0, 1e4], &keys, 1.3 * truth(1e4));
    }
    assert_eq!(filter.corrections.len(), MAX_CORRECTIONS);
    assert!(!filter.corrections.contains_key(&key(0)), "the oldest went");
    let after = filter.correction(&last);
    assert!(after > before * 1.01, "{after} {before}");
    let new = filter.correction(&keys[1..]);
    assert!(new > 1.03, "the new one has moved too: {new}");
}
