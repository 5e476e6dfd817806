//! `ragweave-eval logits` against the PyTorch reference of the fused prefill, and on bad input.
//!
//! The fixtures are made by `scripts/fixtures/make_fusion.py`; the flags here are those of
//! `scripts/fixtures/fusion_reference.py`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use support::{Outcome, checkout, numbers, ragweave_eval};
use tempfile::TempDir;

fn model(variant: &str) -> PathBuf {
    checkout("engine/tests/fixtures/models").join(variant)
}

fn fixture(variant: &str) -> Value {
    let path = checkout("engine/tests/fixtures/fusion").join(format!("{variant}.json"));
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}

/// A plan file in a directory that goes with it.
fn plan_file(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plan.json");
    fs_err::write(&path, text).unwrap();
    (dir, path)
}

fn logits(variant: &str) -> Command {
    let mut command = ragweave_eval();
    command
        .args(["logits", "--json", "--model"])
        .arg(model(variant));
    command
}

/// The value of a case's field as a flag; nothing where it does not apply.
fn flag(command: &mut Command, name: &str, value: &Value) {
    let text = match value {
        Value::Null => return,
        Value::Array(items) if items.is_empty() => return,
        Value::Array(items) => items
            .iter()
            .map(Value::to_string)
            .collect::<Vec<_>>()
            .join(","),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    command.arg(format!("--{name}")).arg(text);
}

/// The policy of a case with its settings, in the engine's notation.
fn selection(case: &Value) -> Value {
    let Some(policy) = case["policy"].as_str() else {
        return Value::Null;
    };
    let mut text = policy.to_owned();
    if let Some(layer) = case["check_layer"].as_u64() {
        text += &format!("@{layer}");
    }
    for option in ["deviation", "schedule"] {
        if let Some(option) = case[option].as_str() {
            text += &format!("/{option}");
        }
    }
    text.into()
}

fn equals_the_reference(variant: &str) {
    let fixture = fixture(variant);
    let (_dir, plan) = plan_file(&fixture["plan"].to_string());
    for case in fixture["cases"].as_array().unwrap() {
        let mut command = logits(variant);
        command.arg("--plan").arg(&plan);
        for name in ["mode", "ratio", "misses"] {
            flag(&mut command, name, &case[name]);
        }
        flag(&mut command, "selection", &selection(case));
        flag(&mut command, "kv-dtype", &case["kv_dtype"]);
        flag(&mut command, "other-prefix", &case["conditioning"]);

        let output = Outcome::of(&mut command).json();

        let name = format!("{variant}, {}", case["name"]);
        let worst = worst_difference(&output["logits"], &case["logits"]);
        let tolerance = case["tolerance"].as_f64().unwrap();
        assert!(worst <= tolerance, "{name}: off by {worst}");
        if case["policy"] != "all" {
            assert_eq!(
                output["selected"],
                *last_selection(case),
                "{name}: rows recomputed"
            );
        }
        assert_eq!(output["report"]["mode"], case["mode"], "{name}");
        let n_missed = case["misses"].as_array().unwrap().len();
        if case["mode"] != "full" {
            assert_eq!(output["report"]["chunks_missed"], n_missed, "{name}");
        }
    }
}

fn worst_difference(actual: &Value, expected: &Value) -> f64 {
    let (actual, expected) = (numbers(actual), numbers(expected));
    assert_eq!(actual.len(), expected.len());
    let differences = actual.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f64::max)
}

/// The rows still alive at the last layer.
fn last_selection(case: &Value) -> &Value {
    let by_layer = case["expected_selected_by_layer"].as_object();
    let last = by_layer.and_then(|layers| {
        layers
            .iter()
            .max_by_key(|(layer, _)| layer.parse::<usize>().unwrap())
    });
    last.map_or(&case["expected_selected"], |(_, rows)| rows)
}

#[test]
fn a_grouped_llama_equals_the_reference() {
    equals_the_reference("llama3-gqa");
}

#[test]
fn a_qwen3_with_sliding_windows_equals_the_reference() {
    equals_the_reference("qwen3-sliding");
}

#[test]
fn plain_tokens_give_the_logits_of_a_full_plan_and_nothing_else() {
    let fixture = fixture("qwen3");
    let plan = &fixture["plan"];
    let chunks = plan["chunks"].as_array().unwrap().iter();
    let segments = [&plan["prefix"]]
        .into_iter()
        .chain(chunks)
        .chain([&plan["question"]]);
    let ids: Vec<String> = segments
        .flat_map(|ids| numbers(ids))
        .map(|id| format!(" {id}"))
        .collect();
    let mut command = logits("qwen3");
    let output = Outcome::of(command.arg("--tokens").arg(ids.join(","))).json();
    let fields: Vec<&String> = output.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["logits"]);
    let full = &fixture["cases"][0];
    assert_eq!(full["mode"], "full");
    assert!(worst_difference(&output["logits"], &full["logits"]) <= 1e-3);
}

#[test]
fn random_rows_follow_their_seed_and_budget() {
    let fixture = fixture("qwen3");
    let (_dir, plan) = plan_file(&fixture["plan"].to_string());
    let selected = |seed: &str| {
        let mut command = logits("qwen3");
        command.args([
            "--mode",
            "blend",
            "--ratio",
            "0.25",
            "--selection",
            &format!("random@{seed}"),
        ]);
        Outcome::of(command.arg("--plan").arg(&plan)).json()["selected"].clone()
    };
    // 37 rows are no candidates: prefix 5 and the exact first chunk of 13 are not, 9 + 17 + 11 are.
    assert_eq!(selected("1").as_array().unwrap().len(), 10);
    assert_eq!(selected("1"), selected("1"));
    assert_ne!(selected("1"), selected("2"));
}

#[test]
fn bad_flags_are_refused_by_name() {
    let (_dir, plan) = plan_file(&fixture("qwen3")["plan"].to_string());
    let plan = plan.to_string_lossy().into_owned();
    let cases: [(&[&str], &[&str]); 13] = [
        (&[], &["--tokens", "--plan"]),
        (&["--tokens", ""], &["--tokens", "not a token id"]),
        (&["--tokens", "1,x"], &["--tokens", "`x`"]),
        (&["--tokens", "1,-2"], &["--tokens", "-2"]),
        (
            &["--tokens", "1,4000000000"],
            &["tokens", "4000000000", "vocabulary"],
        ),
        (&["--tokens", "1", "--plan", &plan], &["--tokens", "--plan"]),
        (
            &["--plan", &plan, "--mode", "blend", "--ratio", "NaN"],
            &["--ratio", "NaN"],
        ),
        (
            &["--plan", &plan, "--mode", "blend", "--ratio", "1.5"],
            &["--ratio", "1.5"],
        ),
        (&["--plan", &plan, "--mode", "fuse"], &["--mode", "reuse"]),
        (
            &["--plan", &plan, "--selection", "best"],
            &["--selection", "known are hkvd"],
        ),
        (
            &["--plan", &plan, "--mode", "blend", "--selection", "hkvd@9"],
            &["selection", "layer 9 is too deep"],
        ),
        (
            &["--plan", &plan, "--misses", "4"],
            &["--misses", "chunk 4", "0 to 3"],
        ),
        (
            &[
                "--plan",
                &plan,
                "--mode",
                "reuse",
                "--other-prefix",
                "5,99999",
            ],
            &["chunk 0", "99999", "vocabulary"],
        ),
    ];
    for (args, words) in cases {
        Outcome::of(logits("qwen3").args(args)).expect_error(words);
    }
}

#[test]
fn bad_plans_are_refused_with_the_place() {
    let plan = |question: Value| json!({"prefix": [1], "chunks": [[2]], "question": question});
    let cases = [
        (plan(json!([])).to_string(), vec!["question", "no tokens"]),
        (
            plan(json!([-1])).to_string(),
            vec!["plan.json", "-1", "line 1 column"],
        ),
        (
            "{\"prefix\": [1],\n \"chunks\": [[2]}".to_owned(),
            vec!["plan.json", "line 2 column"],
        ),
        (
            "{\"prefix\": [1], \"chunks\": []}".to_owned(),
            vec!["plan.json", "question"],
        ),
        (
            json!({"prefix": [], "chunks": [], "question": [1], "chunk": []}).to_string(),
            vec!["plan.json", "`chunk`"],
        ),
        (
            json!({"prefix": [1], "chunks": [[]], "question": [1]}).to_string(),
            vec!["chunks", "empty", "0"],
        ),
    ];
    for (text, words) in cases {
        let (_dir, path) = plan_file(&text);
        Outcome::of(logits("qwen3").arg("--plan").arg(&path)).expect_error(&words);
    }
    Outcome::of(logits("qwen3").args(["--plan", "/nowhere/plan.json"]))
        .expect_error(&["/nowhere/plan.json"]);
    let mut command = ragweave_eval();
    command.args(["logits", "--model", "/nowhere", "--tokens", "1"]);
    Outcome::of(&mut command).expect_error(&["/nowhere"]);
}
