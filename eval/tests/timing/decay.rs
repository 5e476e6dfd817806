//! `ragweave-eval decay`.

use std::collections::HashSet;
use std::process::Command;

use serde_json::Value;

use crate::site::Site;
use crate::support::Outcome;
use crate::{column, cut_off, expect_summary, log};

/// Five queries over two chunks each, in batches of two, under two modes: ten sets, which is all
/// that five chunks give.
fn decay(site: &Site) -> Command {
    let mut command = site.command("decay");
    command.args(["--queries", "5", "--batch", "2", "--chunks", "2"]);
    command.args(["--modes", "full,reuse"]);
    command
}

#[test]
fn hits_stay_and_the_store_does_not_grow() {
    let site = Site::new(false);
    let printed = Outcome::of(&mut decay(&site)).json();

    let rows = expect_summary(&site.out(), &printed, "decay");
    let policies = ["full", "full", "full", "reuse", "reuse", "reuse"];
    assert_eq!(column(&rows, "policy"), policies);
    assert_eq!(column(&rows, "batch"), [0, 1, 2, 0, 1, 2]);
    assert_eq!(column(&rows, "queries"), [2, 2, 1, 2, 2, 1]);
    let hit_rates = column(&rows, "hit_rate");
    assert_eq!(hit_rates[..3], [Value::Null, Value::Null, Value::Null]);
    assert_eq!(hit_rates[3..], [1.0, 1.0, 1.0]);
    assert!(
        rows.iter()
            .all(|row| row["ttft_ms_p50"].as_f64().unwrap() > 0.0)
    );
    assert_eq!(printed["flatness"][1]["hit_rate_ratio"], 1.0);

    let store = &printed["store"];
    assert_eq!(store["before"], store["after"]);
    assert_eq!(store["after"]["blobs"], 5);
    assert!(store["after"]["live_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn a_store_without_kv_fills_up_and_the_run_says_so() {
    let site = Site::new(true);
    let mut command = decay(&site);
    let outcome = Outcome::of(command.args(["--seed", "3"]));
    let printed = outcome.json();
    let missed: u64 = log(&site.out())[2..]
        .iter()
        .map(|batch| batch["modes"][1]["chunks_missed"].as_u64().unwrap())
        .sum();
    assert_eq!(
        outcome.stderr.contains("without stored KV"),
        missed > 0,
        "{}",
        outcome.stderr
    );
    let hits = |row: &Value| row["hit_rate"].as_f64().unwrap();
    let lowest = printed["rows"].as_array().unwrap()[3..].iter().map(hits);
    assert_eq!(lowest.fold(1.0, f64::min) < 1.0, missed > 0);
}

#[test]
fn an_interrupted_run_goes_on_with_the_next_batch() {
    let site = Site::new(false);
    Outcome::of(&mut decay(&site)).json();
    let before = log(&site.out());
    cut_off(&site.out(), 2);
    let printed = Outcome::of(&mut decay(&site)).json();
    expect_summary(&site.out(), &printed, "decay");
    let after = log(&site.out());
    // The size at the start and the first batch are those of the first attempt.
    assert_eq!(after[..3], before[..3]);
    assert_eq!(column(&after[2..], "batch"), [0, 1, 2]);
    let items: HashSet<String> = after[1..]
        .iter()
        .map(|item| item["item"].to_string())
        .collect();
    assert_eq!(items.len(), 2);
}

#[test]
fn the_text_ends_with_what_changed() {
    let site = Site::new(false);
    let mut command = crate::support::ragweave_eval();
    let with_json = decay(&site);
    command.args(with_json.get_args().filter(|arg| *arg != "--json"));
    let outcome = Outcome::of(&mut command);
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    let text = &outcome.stdout;
    assert!(
        text.contains("hit rate 100.0 %, then 100.0 % (ratio 1.000)"),
        "{text}"
    );
    assert!(
        text.contains("flat from the first batch to the last"),
        "{text}"
    );
    assert!(
        text.contains("store: ") && text.contains("KV of 5 chunks, then of 5"),
        "{text}"
    );
}

#[test]
fn bad_input_is_refused_by_name() {
    let site = Site::new(false);
    let sets = [
        "5 chunks",
        "10 sets of 2",
        "need 12",
        "--chunks",
        "--queries",
    ];
    let mut command = site.command("decay");
    command.args(["--queries", "6", "--chunks", "2", "--modes", "full,reuse"]);
    Outcome::of(&mut command).expect_error(&sets);
    let mut command = site.command("decay");
    command.args(["--queries", "1", "--chunks", "2", "--modes", "hkvd@7:0.1"]);
    Outcome::of(&mut command).expect_error(&["query 0 under hkvd@7:0.1", "too deep"]);
    assert!(
        !site.out().exists(),
        "what cannot run leaves nothing behind"
    );

    Outcome::of(&mut decay(&site)).json();
    let mut other = decay(&site);
    Outcome::of(other.args(["--seed", "1"])).expect_error(&["--out", "holds another run", "seed"]);
    fs_err::write(site.out().join("run.jsonl"), "{}").unwrap();
    Outcome::of(&mut decay(&site)).expect_error(&["run.jsonl", "no header line"]);
}
