//! Rows of a few hand-made items.

use super::super::score::Scores;
use super::*;

fn item(id: &str, exact_match: f64, kl: f64) -> Item {
    Item {
        dataset: "demo".to_owned(),
        id: id.to_owned(),
        kind: "local".to_owned(),
        spec: String::new(),
        answer: String::new(),
        scores: Scores {
            exact_match: Some(exact_match),
            f1: Some(exact_match / 2.0),
            token_f1: None,
            rouge_l: None,
            ruler: None,
        },
        kl,
        top1_agreement: 1.0,
        attention_deviation: vec![None, Some(kl)],
        recomputed_share: Some(0.1),
        computed_share: 0.2,
        deviation_left: None,
        deviation_captured: Some(0.7),
        prompt_tokens: 9,
        is_exact: false,
        ttft_ms: 1.0,
    }
}

fn dataset(name: &str) -> Dataset {
    Dataset {
        name: name.to_owned(),
        task: Task::ShortAnswer,
        instruction: None,
        examples: Vec::new(),
        skipped: Vec::new(),
    }
}

fn row(items: &[Item], full: &[Item], reuse: &[Item]) -> Row {
    let compared = Compared {
        items: items.iter().collect(),
        full: full.iter().collect(),
        reuse: reuse.iter().collect(),
    };
    Row::new(&dataset("a"), &"hkvd@2:0.1".parse().unwrap(), &compared, 1)
}

#[test]
fn a_row_is_the_mean_over_questions_beside_full_prefill() {
    let full = [
        item("a", 1.0, 0.0),
        item("b", 1.0, 0.0),
        item("c", 1.0, 0.0),
        item("d", 0.0, 0.0),
    ];
    let reuse = [
        item("a", 0.0, 0.0),
        item("b", 0.0, 0.0),
        item("c", 1.0, 0.0),
        item("d", 0.0, 0.0),
    ];
    let mode = [
        item("a", 1.0, 0.2),
        item("b", 0.0, 0.4),
        item("c", 1.0, 0.0),
        item("d", 0.0, 0.2),
    ];
    let row = row(&mode, &full, &reuse);
    assert_eq!(
        (row.policy.as_str(), row.ratio, row.n),
        ("hkvd@2", Some(0.1), 4)
    );
    assert_eq!((row.exact_match, row.vs_full), (Some(0.5), Some(-0.25)));
    // F1 is half of the match: 0.25 here, 0.125 for reuse, 0.375 for full.
    assert_eq!(row.normalised_f1, Some(0.5));
    assert_eq!(row.kl.map(|kl| (kl * 1e6).round()), Some(2e5));
    // Reuse is given without a divergence here, so the mode is further off by all of its own.
    assert_eq!(row.kl_vs_reuse.map(|kl| (kl * 1e6).round()), Some(2e5));
    assert_eq!(row.attention_deviation[0], None);
    let subset = row.where_full_is_right.unwrap();
    assert_eq!(subset.n, 3);
    assert_eq!(subset.exact_match.map(|x| (x * 3.0).round()), Some(2.0));
    assert_eq!(
        row.by_type["local"],
        Score {
            n: 4,
            exact_match: Some(0.5)
        }
    );
    assert_eq!(row.note, None);
}

#[test]
fn a_model_that_cannot_do_the_task_has_fidelity_only() {
    let full = [item("a", 0.0, 0.0), item("b", 0.0, 0.0)];
    let row = row(&full, &full, &full);
    assert_eq!(
        (row.exact_match, row.exact_match_ci.0, row.vs_full),
        (None, None, None)
    );
    assert_eq!((row.kl, row.top1_agreement), (Some(0.0), Some(1.0)));
    assert!(
        row.note
            .unwrap()
            .contains("cannot do the task (full prefill: exact match 0.0 %)")
    );
    assert_eq!(row.by_type["local"].exact_match, None);
}

#[test]
fn prompts_on_which_no_mode_can_lose_are_told() {
    let alone = Item {
        is_exact: true,
        ..item("a", 1.0, 0.0)
    };
    let full = [alone, item("b", 1.0, 0.0)];
    let note = row(&full, &full, &full).note.unwrap();
    assert!(note.contains("1 of 2 prompts hold one chunk"), "{note}");
}

#[test]
fn the_demo_says_what_it_is_evidence_of_and_a_row_of_nothing_is_defined() {
    let nothing = Compared {
        items: Vec::new(),
        full: Vec::new(),
        reuse: Vec::new(),
    };
    let row = Row::new(&dataset("demo"), &"reuse".parse().unwrap(), &nothing, 1);
    assert!(row.note.unwrap().contains("no evidence on real LLMs"));
    assert_eq!((row.n, row.exact_match, row.kl), (0, None, None));
    assert_eq!((row.policy.as_str(), row.ratio), ("reuse", None));
}
