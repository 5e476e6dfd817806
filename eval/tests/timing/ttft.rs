//! `ragweave-eval ttft`.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Outcome, checkout, ragweave_eval};
use crate::{column, cut_off, expect_summary, log, replaced, site};

/// Two context lengths of 20 and 60 tokens, two rounds.
fn ttft(out: &Path) -> Command {
    let mut command = ragweave_eval();
    command.arg("ttft").arg("--out").arg(out);
    let shape = "--json --chunk-tokens 20 --chunks 3,1 --question-tokens 4 --prefix-tokens 5";
    command.args(shape.split(' '));
    command.args(["--repeats", "2", "--modes", "reuse,first-k:0.2"]);
    command
}

fn with_random_weights(out: &Path) -> Command {
    let mut command = ttft(out);
    let config = checkout("engine/tests/fixtures/models/qwen3/config.json");
    command.arg("--random-weights").arg(config);
    command
}

fn out() -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    (dir, out)
}

#[test]
fn every_length_has_every_mode_beside_the_full_prefill_of_its_rounds() {
    let (_dir, out) = out();
    let printed = Outcome::of(&mut with_random_weights(&out)).json();

    let rows = expect_summary(&out, &printed, "ttft");
    let policies = ["full", "reuse", "first-k", "full", "reuse", "first-k"];
    assert_eq!(column(&rows, "policy"), policies);
    assert_eq!(column(&rows, "context_tokens"), [20, 20, 20, 60, 60, 60]);
    assert_eq!(column(&rows, "n"), [2; 6]);
    assert_eq!(rows[2]["ratio"], 0.2);
    assert_eq!(
        (&rows[0]["mode"], &rows[2]["mode"]),
        (&json!("full"), &json!("blend"))
    );
    for row in &rows {
        assert!(row["ttft_ms_p50"].as_f64() <= row["ttft_ms_p95"].as_f64());
        let stages: Vec<&str> = row["stages"]
            .as_object()
            .unwrap()
            .keys()
            .map(|k| &**k)
            .collect();
        for stage in [
            "queue_ms",
            "embed_ms",
            "search_ms",
            "load_ms",
            "load_wait_ms",
        ] {
            assert!(stages.contains(&stage), "{stages:?}");
        }
        assert!(row["stages"]["recompute_ms"].as_f64().unwrap() > 0.0);
        assert!(row["stages"]["first_decode_ms"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(rows[3]["speedup_vs_full"], 1.0);
    assert_eq!(printed["model"]["name"], "config");

    let rounds = &log(&out)[1..];
    assert_eq!(column(rounds, "context_tokens"), [20, 20, 60, 60]);
    assert_eq!(column(rounds, "round"), [1, 2, 1, 2]);
    // Of 60 tokens reuse loads all and first-k computes 4 of each chunk but the exact first.
    let runs = rounds[3]["runs"].as_array().unwrap();
    assert_eq!(column(runs, "tokens_loaded"), [0, 60, 60]);
    assert_eq!(column(runs, "tokens_recomputed"), [0, 0, 8]);
}

#[test]
fn an_interrupted_run_keeps_what_it_has_and_measures_the_rest() {
    let (_dir, out) = out();
    Outcome::of(&mut with_random_weights(&out)).json();
    let before = log(&out);
    cut_off(&out, 1);
    let printed = Outcome::of(&mut with_random_weights(&out)).json();
    expect_summary(&out, &printed, "ttft");
    let after = log(&out);
    assert_eq!(after[..2], before[..2]);
    assert_eq!(column(&after[1..], "round"), [1, 2, 1, 2]);

    // A complete run measures nothing again, and another one does not get in.
    let again = Outcome::of(&mut with_random_weights(&out)).json();
    // Read back, a time may differ in its last bit: the rows are those of the same log, no more.
    expect_summary(&out, &again, "ttft");
    assert_eq!(log(&out), after);
    let mut other = with_random_weights(&out);
    Outcome::of(other.args(["--seed", "1"])).expect_error(&["--out", "`seed` is 0 there"]);
}

#[test]
fn a_model_with_weights_is_timed_by_its_directory() {
    let (_dir, out) = out();
    let mut command = ttft(&out);
    let printed = Outcome::of(command.arg("--model").arg(site::model())).json();
    assert_eq!(printed["model"]["name"], "tiny-qwen3");
    assert_eq!(printed["config"]["random_weights"], Value::Null);
    assert_eq!(printed["rows"].as_array().unwrap().len(), 6);
}

#[test]
fn bad_input_is_refused_by_name() {
    let (_dir, out) = out();
    Outcome::of(&mut ttft(&out)).expect_error(&["--random-weights", "--model"]);
    let cases: [(&[&str], &[&str]); 4] = [
        (&["--modes", "best:0.1"], &["--modes", "best"]),
        (&["--modes", "hkvd@9:0.1"], &["hkvd@9:0.1", "too deep"]),
        (&["--chunks", "1,0"], &["--chunks", "at least 1"]),
        (&["--chunk-tokens", "100000"], &["prompt of 300009 tokens"]),
    ];
    for (flags, words) in cases {
        Outcome::of(&mut replaced(with_random_weights(&out), flags)).expect_error(words);
    }
    assert!(!out.exists(), "what cannot run leaves nothing behind");
    let mut command = with_random_weights(&out);
    Outcome::of(command.args(["--scratch", "/nowhere/at/all"])).expect_error(&["--scratch"]);
    let mut command = ttft(&out);
    command.args(["--model", "/nowhere"]);
    Outcome::of(&mut command).expect_error(&["--model", "/nowhere"]);
}
