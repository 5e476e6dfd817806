//! The arithmetic of budgets, ties, unions and schedules.

use super::super::{Member, members};
use super::*;
use crate::fusion::selection::{Schedule, Selection};

fn candidates(ratio: f64, budget: Budget) -> Candidates {
    Candidates {
        chunks: vec![10..20, 30..35],
        n_layers: 4,
        ratio,
        budget,
    }
}

/// The selector of policies that need no probe.
fn selector(policy: &str, ratio: f64) -> Selector {
    let selection: Selection = policy.parse().unwrap();
    let candidates = candidates(ratio, selection.applied_budget());
    let mut check = None;
    let scores = members(&selection.policy, 4)
        .into_iter()
        .map(|member| match member {
            Member::Ranked(ranker) => Some(ranker.scores(&candidates, &[])),
            Member::Checked(found) => {
                check = Some(found);
                None
            }
        })
        .collect();
    Selector::new(candidates, scores, check)
}

/// Rows 10..20 and 30..35 with these scores, 0 for the others.
fn scored(scores: &[(usize, f32)]) -> Vec<f32> {
    let rows = candidates(0.0, Budget::Prompt).rows();
    let mut all = vec![0.0; rows.len()];
    for (row, score) in scores {
        all[rows.binary_search(row).unwrap()] = *score;
    }
    all
}

#[test]
fn a_budget_rounds_up_over_all_candidates() {
    for (ratio, n) in [(0.1, 2), (0.2, 3), (0.01, 1), (1.0, 15)] {
        assert_eq!(selector("random", ratio).initial_rows().len(), n);
    }
}

#[test]
fn first_k_takes_a_share_of_each_chunk() {
    assert_eq!(selector("first-k", 0.2).initial_rows(), [10, 11, 30]);
    assert_eq!(
        selector("first-k", 0.21).initial_rows(),
        [10, 11, 12, 30, 31]
    );
}

#[test]
fn random_is_seeded_and_spends_the_budget_on_candidates() {
    let rows = selector("random@7", 0.4).initial_rows();
    assert_eq!(rows.len(), 6);
    assert!(rows.windows(2).all(|pair| pair[0] < pair[1]), "{rows:?}");
    let is_candidate = |row: &usize| (10..20).contains(row) || (30..35).contains(row);
    assert!(rows.iter().all(is_candidate));
    assert_eq!(rows, selector("random@7", 0.4).initial_rows());
    assert_ne!(rows, selector("random@8", 0.4).initial_rows());
}

#[test]
fn hkvd_keeps_the_most_deviating_and_breaks_ties_downwards() {
    let selector = selector("hkvd@1", 0.2);
    let rows = candidates(0.2, Budget::Prompt).rows();
    let mut deviation = scored(&[(32, 5.0), (13, 2.0), (17, 2.0), (19, 2.0)]);
    assert_eq!(selector.keep(1, &rows, &deviation), [13, 17, 32]);
    deviation[0] = -f32::NAN; // row 10: not trusted, so recomputed
    assert_eq!(selector.keep(1, &rows, &deviation), [10, 13, 32]);
    assert_eq!(selector.initial_rows(), rows);
    assert_eq!(selector.deviation_at(1), Some(Deviation::Kv));
    assert_eq!(selector.deviation_at(2), None);
}

#[test]
fn gradual_runs_from_one_and_a_half_k_to_half_k() {
    let selector = selector("hkvd@1/k/gradual", 0.25); // k = 4
    let mut rows = candidates(0.25, Budget::Prompt).rows();
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

#[test]
fn a_union_names_the_best_of_each_policy_in_turn() {
    let first = scored(&[(10, 3.0), (30, 2.0), (11, 1.0)]);
    let second = scored(&[(10, 9.0), (15, 8.0), (16, 7.0)]);
    let selector = Selector::new(
        candidates(0.26, Budget::Prompt), // k = 4
        vec![Some(first), Some(second)],
        None,
    );
    // 10 from the first; 15, the best new one, from the second; 30; 16.
    assert_eq!(selector.initial_rows(), [10, 15, 16, 30]);
}

#[test]
fn a_union_with_a_comparison_waits_for_its_layer() {
    let selector = selector("first-k+hkvd@2", 0.2); // k = 3
    let rows = candidates(0.2, Budget::Prompt).rows();
    assert_eq!(selector.initial_rows(), rows);
    let deviation = scored(&[(34, 9.0), (33, 8.0)]);
    // first-k: 10 and then 30, both heads scoring 1; hkvd: 34 in between.
    assert_eq!(selector.keep(2, &rows, &deviation), [10, 30, 34]);
}

#[test]
fn a_budget_by_length_gives_each_chunk_its_own_best() {
    let scores = scored(&[(10, 9.0), (11, 8.0), (12, 7.0), (34, 1.0)]);
    let selector = Selector::new(candidates(0.2, Budget::Length), vec![Some(scores)], None);
    assert_eq!(selector.initial_rows(), [10, 11, 34]);
}

#[test]
fn a_budget_by_score_follows_the_mass_of_the_chunks() {
    let mass_in_second = scored(&[(10, 1.0), (30, 2.0), (31, 3.0), (33, 4.0)]);
    let budget = candidates(0.3, Budget::Score); // k = 5
    let selector = Selector::new(budget, vec![Some(mass_in_second)], None);
    // Nine tenths of 5 are 4.5, so the second chunk has 4 or 5: one tenth claims 0.5 first.
    assert_eq!(selector.initial_rows(), [10, 30, 31, 32, 33]);
}

#[test]
fn parts_stay_within_their_room_and_follow_the_claims() {
    assert_eq!(divide(10, &[(3.0, 20), (1.0, 20)]), [8, 2]);
    assert_eq!(divide(10, &[(3.0, 4), (1.0, 20)]), [4, 6]);
    assert_eq!(divide(10, &[(3.0, 4), (1.0, 3)]), [4, 3]);
    assert_eq!(divide(3, &[(0.0, 5), (0.0, 5)]), [2, 1]);
    assert_eq!(divide(3, &[]), [0; 0]);
}

#[test]
fn schedules_start_and_end_at_their_factors() {
    let check = Check {
        layer: 3,
        deviation: Deviation::V,
        schedule: Schedule::Gradual,
    };
    assert_eq!(check.factor(3, 4), 1.0); // one layer only: the mean
    assert_eq!(check.factor(3, 5), 1.5);
    assert_eq!(check.factor(4, 5), 0.5);
}
