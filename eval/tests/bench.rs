//! `ragweave-eval bench` on a tiny shape: every mode does the work its name says, from either place.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use ragweave_store::page_cache::memory_file_system;
use serde_json::Value;
use support::{Outcome, checkout, ragweave_eval};

const SHAPE: &str = "--chunks 3 --chunk-tokens 20 --question-tokens 4 --prefix-tokens 5";

/// Runs a bench of the tiny shape; `flags` are separated by blanks.
fn bench(flags: &str) -> Outcome {
    let mut command = ragweave_eval();
    let config = checkout("engine/tests/fixtures/models/qwen3/config.json");
    command.arg("bench").arg("--random-weights").arg(config);
    Outcome::of(
        command
            .args("--decode-tokens 3".split(' '))
            .args(flags.split(' ')),
    )
}

#[track_caller]
fn expect_counts(row: &Value, spec: &str, [loaded, recomputed, prefilled]: [u64; 3]) {
    assert_eq!(row["spec"], spec);
    let counts = ["tokens_loaded", "tokens_recomputed", "tokens_prefilled"];
    assert_eq!(
        counts.map(|name| row[name].as_u64().unwrap()),
        [loaded, recomputed, prefilled]
    );
    assert_eq!(row["n"], 2);
    assert!(row["ttft_ms_p50"].as_f64().unwrap() > 0.0);
    assert!(row["decode_tokens_per_s"].as_f64().unwrap() > 0.0);
}

/// The prefix is cached by the chunks' own computation; of the chunks the first is exact.
#[track_caller]
fn expect_rows(report: &Value) {
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    let full = &rows[0];
    assert_eq!(full["speedup_vs_full"], 1.0);
    let prefilled = full["tokens_prefilled"].as_u64().unwrap();
    expect_counts(full, "full", [0, 0, prefilled]);
    assert!((64..=69).contains(&prefilled), "{prefilled}");
    expect_counts(&rows[1], "reuse", [60, 0, 4]);
    expect_counts(&rows[2], "hkvd@1:0.2", [60, 8, 4]);
    expect_counts(&rows[3], "first-k:0.2", [60, 8, 4]);
}

#[test]
fn every_mode_does_its_work_from_a_store_and_from_memory() {
    for place in ["store", "memory"] {
        let flags = format!("{SHAPE} --json --repeats 2 --ratios 0.2 --kv {place}");
        let report = bench(&flags).json();
        expect_rows(&report);
        assert_eq!(report["kv"], place);
        assert_eq!(report["prompt_tokens"], 69);
        assert_eq!(report["model"]["name"], "config");
        // K and V of 4 layers, 2 heads of 16, 4 bytes, 60 tokens; reuse reads them all.
        assert_eq!(report["rows"][1]["bytes_loaded"], 2 * 4 * 2 * 16 * 4 * 60);
    }
}

#[test]
fn a_model_with_its_own_weights_is_timed_too() {
    let bench = |flag: &str, model: &str| {
        let mut command = ragweave_eval();
        let flags = format!("{SHAPE} --repeats 1 --ratios 0.2 --decode-tokens 3");
        let command = command.arg("bench").arg(flag).arg(checkout(model));
        Outcome::of(command.args(flags.split(' '))).stdout
    };
    let own = bench("--model", "engine/tests/fixtures/models/qwen3");
    assert!(own.starts_with("qwen3: "), "{own}");
    let config = "engine/tests/fixtures/models/qwen3/config.json";
    let random = bench("--random-weights", config);
    assert!(random.starts_with("config, random weights: "), "{random}");
}

#[test]
fn without_a_prefix_full_prefill_computes_the_whole_prompt() {
    let shape = "--chunks 3 --chunk-tokens 20 --question-tokens 4 --repeats 1 --ratios 0.2";
    let report = bench(&format!("{shape} --json")).json();
    let full = &report["rows"][0];
    assert_eq!(full["spec"], "full");
    assert_eq!(full["tokens_prefilled"], report["prompt_tokens"]);
    assert_eq!(full["prefix_tokens_cached"], 0);
    let text = bench(shape).stdout;
    assert!(!text.contains("device's cache"), "{text}");
    // With one, no mode computes it, and that is said.
    let report = bench(&format!("{shape} --prefix-tokens 5 --json")).json();
    let rows = report["rows"].as_array().unwrap();
    assert!(
        rows.iter().all(|row| row["prefix_tokens_cached"] == 5),
        "{report}"
    );
    let text = bench(&format!("{shape} --prefix-tokens 5")).stdout;
    assert!(
        text.contains("comes from the device's cache in every mode, full prefill's too"),
        "{text}"
    );
}

#[test]
fn the_share_of_context_recomputed_is_less_than_the_ratio() {
    let report = bench(&format!("{SHAPE} --json --repeats 1 --ratios 0.15")).json();
    let share = |row: usize| report["rows"][row]["recomputed_share"].clone();
    // 6 of 60 tokens: 15 % of the 40 that are not exact.
    assert_eq!(
        (share(0), share(1), share(2)),
        (Value::Null, 0.0.into(), 0.1.into())
    );
    let text = bench(&format!("{SHAPE} --repeats 1 --ratios 0.15")).stdout;
    assert!(
        text.contains("of context") && text.contains("10.0 %"),
        "{text}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_not_called_cold() {
    // Some containers have no tmpfs there.
    let shared = std::path::Path::new("/dev/shm");
    if !matches!(memory_file_system(shared), Ok(Some(_))) {
        return;
    }
    let flags = format!("{SHAPE} --repeats 1 --ratios 0.2 --kv cold --scratch /dev/shm");
    bench(&flags).expect_error(&["/dev/shm is ", "nothing read there is cold", "--scratch"]);
}

#[test]
fn cold_reads_come_from_a_disk_or_not_at_all() {
    let outcome = bench(&format!(
        "{SHAPE} --json --repeats 1 --ratios 0.2 --kv cold"
    ));
    match outcome.code {
        Some(0) => assert_eq!(outcome.json()["kv"], "cold"),
        _ if outcome.stderr.contains("keeps its files in memory") => {
            outcome.expect_error(&["nothing read there is cold", "--scratch"]);
        }
        _ => outcome.expect_error(&["stay in memory though they were dropped", "--scratch"]),
    }
}

#[test]
fn text_output_has_a_line_per_mode() {
    let outcome = bench(&format!(
        "{SHAPE} --repeats 1 --ratios 0.1,0.3 --policies first-k"
    ));
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    let is_above = |line: &&str| !line.starts_with("mode");
    let rows: Vec<&str> = outcome.stdout.lines().skip_while(is_above).collect();
    assert_eq!(rows.len(), 1 + 2 + 2, "{}", outcome.stdout);
    assert!(
        rows[1].starts_with("full") && rows[4].starts_with("first-k"),
        "{}",
        outcome.stdout
    );
    assert!(outcome.stdout.contains("parameters") && outcome.stdout.contains("cpu with"));
}

#[test]
fn bad_input_is_refused_by_name() {
    bench(&format!("{SHAPE} --ratios 0.1,NaN")).expect_error(&["--ratios", "NaN"]);
    bench(&format!("{SHAPE} --repeats 0")).expect_error(&["--repeats", "at least 1"]);
    bench(&format!("{SHAPE} --policies hkvd@7"))
        .expect_error(&["selection", "layer 7 is too deep"]);
    bench("--chunks 3 --chunk-tokens 100000 --question-tokens 4 --prefix-tokens 5")
        .expect_error(&["prompt of 300009 tokens", "limit"]);
    bench(&format!("{SHAPE} --scratch /nowhere/at/all")).expect_error(&["--scratch"]);
    let mut command = ragweave_eval();
    command.args(["bench", "--random-weights", "/nowhere/config.json"]);
    Outcome::of(&mut command).expect_error(&["--random-weights", "/nowhere/config.json"]);
}

#[test]
fn the_committed_shapes_are_those_of_the_published_models() {
    for (name, parameters) in [
        ("smollm2-135m", 134_515_008),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.1-8b", 8_030_261_248),
        ("mistral-7b-v0.3", 7_248_023_552),
        // Of the 494,032,768 and 1,543,714,304 published, biases are not counted.
        ("qwen2.5-0.5b", 494_005_120),
        ("qwen2.5-1.5b", 1_543_656_960),
    ] {
        let dir = checkout("eval/configs").join(format!("{name}.json"));
        let text = fs_err::read_to_string(&dir).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let config = ragweave_engine::ModelConfig::from_json(&value, &dir).unwrap();
        assert_eq!(config.n_parameters(), parameters, "{name}");
    }
}
