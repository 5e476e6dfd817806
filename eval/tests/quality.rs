//! `ragweave-eval quality` on the demo model: what it measures, that it measures the same twice, and
//! that it goes on where it was stopped.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Outcome, checkout, ragweave_eval};

/// A run of a few questions, policies and ratios.
fn quality(out: &Path, questions: &str) -> Command {
    let mut command = ragweave_eval();
    command
        .args(["quality", "--demo", "--model"])
        .arg(checkout("demo/model"))
        .args([
            "--seeds",
            "21",
            "--questions",
            questions,
            "--deviation-examples",
            "2",
            "--kv-dtype",
            "f32",
        ])
        .args([
            "--policies",
            "hkvd@2,query/all,anchors@3~mean,random",
            "--ratios",
            "0.05,0.2",
        ])
        .arg("--out")
        .arg(out);
    command
}

#[track_caller]
fn run(mut command: Command) -> String {
    let outcome = Outcome::of(&mut command);
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    outcome.stdout
}

fn read(path: &Path) -> String {
    fs_err::read_to_string(path).unwrap()
}

/// The row of a policy at a ratio.
#[track_caller]
fn row<'a>(summary: &'a Value, policy: &str, ratio: Option<f64>) -> &'a Value {
    let rows = summary["rows"].as_array().unwrap();
    let found = rows
        .iter()
        .find(|row| row["policy"] == policy && row["ratio"].as_f64() == ratio);
    found.unwrap_or_else(|| panic!("no row of {policy}"))
}

#[test]
fn two_runs_of_one_seed_write_the_same_summary_and_an_interrupted_one_too() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = ["a", "b", "c"].map(|name| dir.path().join(name));
    let printed = run(quality(&first, "6"));
    assert!(printed.contains("rank correlation"), "{printed}");
    let mut chosen = quality(&first, "6");
    chosen.args(["--metrics", "token_f1,kl"]);
    let printed = run(chosen);
    assert!(
        printed.contains("token_f1") && !printed.contains("top1_agreement"),
        "{printed}"
    );
    run(quality(&second, "6"));
    let summary = read(&first.join("summary.json"));
    assert_eq!(summary, read(&second.join("summary.json")));

    // The same run, stopped after some items and in the middle of a line.
    run(quality(&third, "6"));
    let log = read(&third.join("run.jsonl"));
    let whole: Vec<&str> = log.split_inclusive('\n').take(25).collect();
    fs_err::write(
        third.join("run.jsonl"),
        whole.concat() + "{\"dataset\": \"de",
    )
    .unwrap();
    fs_err::remove_file(third.join("summary.json")).unwrap();
    run(quality(&third, "6"));
    assert_eq!(summary, read(&third.join("summary.json")));
    assert_eq!(
        read(&third.join("run.jsonl")).lines().count(),
        log.lines().count()
    );

    // Another run does not go on in its place.
    Outcome::of(&mut quality(&third, "7")).expect_error(&["--out", "config.questions"]);
}

#[test]
fn rows_compare_each_mode_with_full_prefill() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    run(quality(&out, "12"));
    let summary: Value = serde_json::from_str(&read(&out.join("summary.json"))).unwrap();
    assert_eq!(summary["rows"].as_array().unwrap().len(), 2 + 4 * 2);

    let full = row(&summary, "full", None);
    assert_eq!(
        (full["n"].as_u64(), full["kl"].as_f64()),
        (Some(12), Some(0.0))
    );
    // The prefix comes from its cache in full prefill too.
    let computed = full["computed_share"].as_f64().unwrap();
    assert!((0.9..=1.0).contains(&computed), "{full}");
    let reuse = row(&summary, "reuse", None);
    assert!(reuse["kl"].as_f64() > Some(0.1), "{reuse}");
    assert!(reuse["exact_match"].as_f64() < full["exact_match"].as_f64());
    let hkvd = row(&summary, "hkvd@2", Some(0.2));
    assert!(hkvd["kl"].as_f64() < reuse["kl"].as_f64(), "{hkvd}");
    assert!(hkvd["deviation_left"].as_f64() < Some(0.6), "{hkvd}");
    // Two of three computed layers run every row of hkvd@2: the work is not the ratio.
    assert!(hkvd["computed_share"].as_f64() > Some(0.6), "{hkvd}");
    let query = row(&summary, "query/all", Some(0.05));
    assert!(query["computed_share"].as_f64() < Some(0.6), "{query}");
    assert!(
        full["note"]
            .as_str()
            .unwrap()
            .contains("no evidence on real LLMs")
    );

    let deviation = &summary["deviation"][0];
    assert_eq!(deviation["n"], 2);
    assert_eq!(deviation["rank_correlation"].as_array().unwrap().len(), 3);
    assert!(
        deviation["rank_correlation"][0].is_null(),
        "stored KV of layer 0 is right"
    );
    let heatmap = &summary["heatmap"];
    let rows = heatmap["rows"].as_array().unwrap().len();
    assert_eq!(heatmap["tokens"].as_array().unwrap().len(), rows);
    assert_eq!(heatmap["selected"].as_object().unwrap().len(), 4);
    let times: Value = serde_json::from_str(&read(&out.join("times.json"))).unwrap();
    assert_eq!(times["rows"].as_array().unwrap().len(), 10);
}

#[test]
fn a_file_with_bad_lines_is_measured_and_a_model_that_cannot_answer_has_fidelity_only() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("odd.jsonl");
    let lines = [
        r#"{"question": "What is it?", "answers": ["zzz"], "documents": ["One thing.", "Another thing."]}"#,
        r#"{"question": 3}"#,
        r#"{"question": "And that?", "answers": ["yyy"], "documents": ["A third thing.", "More of it."]}"#,
    ];
    fs_err::write(&file, lines.join("\n")).unwrap();
    let mut command = ragweave_eval();
    command
        .args([
            "quality",
            "--json",
            "--policies",
            "first-k",
            "--ratios",
            "0.5",
            "--model",
        ])
        .arg(checkout("demo/model"))
        .arg("--dataset")
        .arg(&file)
        .arg("--out")
        .arg(dir.path().join("run"));
    let outcome = Outcome::of(&mut command);
    let summary = outcome.json();
    assert!(outcome.stderr.contains("line=2"), "{}", outcome.stderr);
    let row = row(&summary, "first-k", Some(0.5));
    let note = row["note"].as_str().unwrap();
    assert!(
        note.contains("cannot do the task") && note.contains("1 lines"),
        "{note}"
    );
    assert!(row["exact_match"].is_null() && row["kl"].is_f64(), "{row}");
}

#[test]
fn bad_flags_list_what_is_known() {
    let quality = |arguments: &[&str]| {
        let mut command = ragweave_eval();
        command
            .args(["quality", "--model"])
            .arg(checkout("demo/model"))
            .args(arguments);
        Outcome::of(&mut command)
    };
    quality(&["--demo", "--policies", "best"])
        .expect_error(&["--policies", "known are hkvd, first-k, query"]);
    quality(&["--demo", "--policies", "hkvd@9"]).expect_error(&["--policies", "too deep"]);
    quality(&["--dataset", "squad:x.json"])
        .expect_error(&["unknown dataset format `squad`", "jsonl, musique"]);
    quality(&["--dataset", "ruler:sort@100"])
        .expect_error(&["unknown RULER task `sort`", "multikey"]);
    quality(&["--demo", "--metrics", "bleu"]).expect_error(&[
        "--metrics",
        "unknown metric `bleu`",
        "rouge_l",
    ]);
    quality(&["--dataset", "nowhere.jsonl"]).expect_error(&["nowhere.jsonl"]);
    let mut without_data = ragweave_eval();
    without_data
        .args(["quality", "--model"])
        .arg(checkout("demo/model"));
    let outcome = Outcome::of(&mut without_data);
    assert!(outcome.stderr.contains("--dataset"), "{}", outcome.stderr);
}
