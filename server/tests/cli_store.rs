//! `ragweave store`, `doctor` and `config` over a data directory made by `ingest`.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::process::Stdio;

use serde_json::{Value, json};
use support::{Outcome, Site, ragweave};

fn doctor(site: &Site) -> Outcome {
    Outcome::of(
        ragweave()
            .arg("doctor")
            .arg("--data")
            .arg(site.data())
            .arg("--model")
            .arg(&site.model),
    )
}

#[test]
fn verify_finds_a_flipped_byte_and_ingest_repairs_it() {
    let site = Site::with_corpus();
    site.ingest(&[]).expect_code(0);
    let clean: Value = serde_json::from_str(&site.store("verify").expect_code(0).stdout).unwrap();
    assert_eq!((&clean["blobs"], &clean["bad"]), (&json!(3), &json!([])));

    let segment = largest_segment(&site);
    let mut bytes = fs_err::read(&segment).unwrap();
    // The last layer's V block of some record: beyond the middle and not in the padding, which is zero.
    let middle = bytes.len() / 2;
    let at = middle + bytes[middle..].iter().position(|byte| *byte != 0).unwrap();
    bytes[at] ^= 0x40;
    fs_err::write(&segment, bytes).unwrap();

    let damaged: Value = serde_json::from_str(&site.store("verify").expect_code(3).stdout).unwrap();
    assert_eq!(damaged["bad"].as_array().unwrap().len(), 1, "{damaged}");
    assert_eq!(site.stats()["quarantined"], 1);
    let report = doctor(&site).expect_code(0);
    assert!(report.stdout.contains("quarantined"), "{}", report.stdout);

    let repaired = site
        .ingest(&["--progress", "jsonl"])
        .expect_code(0)
        .finished();
    assert_eq!(
        (&repaired["replaced"], &repaired["unchanged"]),
        (&json!(1), &json!(2))
    );
    let again: Value = serde_json::from_str(&site.store("verify").expect_code(0).stdout).unwrap();
    assert_eq!(again["bad"], json!([]));
}

/// As in `ragweave store stats | head -1`, where the reader exits first.
#[test]
fn a_closed_standard_output_ends_the_process_without_a_panic() {
    let site = Site::with_corpus();
    site.ingest(&["--no-kv"]).expect_code(0);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut stats = ragweave();
    stats.args(["store", "stats", "--data"]).arg(site.data());
    let child = stats.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(141), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

fn largest_segment(site: &Site) -> std::path::PathBuf {
    let mut open = vec![site.data()];
    let mut files = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in fs_err::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let is_meta = path.ends_with("meta") || path.ends_with("rocksdb");
            if path.is_dir() && !is_meta {
                open.push(path);
            } else if path.parent().unwrap().ends_with("segments") {
                files.push((path.metadata().unwrap().len(), path));
            }
        }
    }
    files.into_iter().max().unwrap().1
}

#[test]
fn doctor_reports_each_part_and_says_what_to_do() {
    let site = Site::with_corpus();
    let before = doctor(&site).expect_code(0);
    assert!(
        before
            .stdout
            .contains("does not exist yet; `ragweave ingest` creates it")
    );
    site.ingest(&[]).expect_code(0);
    let after = doctor(&site).expect_code(0);
    for part in [
        "cpu", "memory", "config", "device", "model", "prompt", "disk", "store", "kv io",
    ] {
        assert!(
            after.stdout.lines().any(|line| line[6..].starts_with(part)),
            "{part}: {}",
            after.stdout
        );
    }
    assert!(
        after.stdout.contains("3 documents, 3 chunks, 3 blobs"),
        "{}",
        after.stdout
    );
    assert!(!after.stdout.contains("FAIL"));
}

#[test]
fn doctor_fails_on_a_broken_model_and_still_checks_the_rest() {
    let mut site = Site::with_corpus();
    fs_err::write(site.copy_model().join("config.json"), "{").unwrap();
    let report = doctor(&site).expect_code(1);
    assert!(report.stdout.contains("FAIL  model"), "{}", report.stdout);
    assert!(report.stdout.contains("disk"), "{}", report.stdout);
}

#[test]
fn config_print_shows_values_with_their_origins() {
    let site = Site::new();
    let mut command = ragweave();
    command
        .args(["config", "print", "--json", "--data"])
        .arg(site.data());
    command
        .args(["--set", "limits.max_queue=8"])
        .env("RAGWEAVE_RETRIEVAL_TOP_K", "9");
    let printed = Outcome::of(&mut command).expect_code(0);
    let settings: Vec<Value> = serde_json::from_str(&printed.stdout).unwrap();
    let find = |key: &str| settings.iter().find(|s| s["key"] == key).unwrap();
    assert_eq!(find("limits.max_queue")["value"], 8);
    assert_eq!(find("limits.max_queue")["origin"], "flag --set");
    assert_eq!(find("retrieval.top_k")["value"], 9);
    assert_eq!(
        find("retrieval.top_k")["origin"],
        "environment RAGWEAVE_RETRIEVAL_TOP_K"
    );
    assert_eq!(find("fusion.ratio")["origin"], "built-in default");
    assert_eq!(find("model")["origin"], "not set");
}

#[test]
fn config_check_finds_unknown_keys_in_files_and_in_the_environment() {
    let site = Site::new();
    fs_err::create_dir(site.data()).unwrap();
    fs_err::write(
        site.data().join("ragweave.toml"),
        "[limits]\nmax_quue = 1\n",
    )
    .unwrap();
    let check = |variable: Option<(&str, &str)>| {
        let mut command = ragweave();
        command
            .args(["config", "check", "--data"])
            .arg(site.data())
            .arg("--model")
            .arg(&site.model);
        Outcome::of(command.envs(variable))
    };
    check(None).expect_code(2).expect_error(&[
        "limits.max_quue",
        "ragweave.toml",
        "limits.max_queue?",
    ]);
    fs_err::remove_file(site.data().join("ragweave.toml")).unwrap();
    check(Some(("RAGWEAVE_LIMITS_MAX_QUEU", "1")))
        .expect_code(2)
        .expect_error(&["RAGWEAVE_LIMITS_MAX_QUEUE?"]);
    check(Some(("RAGWEAVE_LIMITS_MAX_QUEUE", "1"))).expect_code(0);
}
