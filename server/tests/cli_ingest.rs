//! `ragweave ingest` as a user sees it: it is idempotent, replaces and prunes documents, can be resumed, and reports
//! failures.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{Outcome, Serving, Site, ragweave};

/// Added, replaced, unchanged, removed, failed.
fn counts(outcome: &Outcome) -> [u64; 5] {
    let finished = outcome.finished();
    ["added", "replaced", "unchanged", "removed", "failed"]
        .map(|key| finished[key].as_u64().unwrap())
}

fn jsonl(site: &Site, args: &[&str]) -> Outcome {
    site.ingest(&[&["--progress", "jsonl"], args].concat())
}

#[test]
fn a_second_ingest_changes_nothing() {
    let site = Site::with_corpus();
    let first = jsonl(&site, &[]).expect_code(0);
    assert_eq!(counts(&first), [3, 0, 0, 0, 0]);
    let committed = first.events();
    assert_eq!(committed[0]["event"], "committed");
    assert_eq!(committed[0]["document"], "brindle.md");
    assert_eq!(committed[0]["chunks"][0], "brindle.md#0");
    assert!(committed[0]["kv_bytes"].as_u64().unwrap() > 0);
    let stats = site.stats();
    assert_eq!(
        (&stats["documents"], &stats["blobs"]),
        (&Value::from(3), &Value::from(3))
    );

    let second = jsonl(&site, &[]).expect_code(0);
    assert_eq!(counts(&second), [0, 0, 3, 0, 0]);
    assert_eq!(second.finished()["kv_bytes"], 0);
    assert_eq!(
        site.stats()["commit_seq"],
        stats["commit_seq"],
        "nothing was written"
    );
}

#[test]
fn a_changed_document_is_replaced_and_the_others_are_left() {
    let site = Site::with_corpus();
    jsonl(&site, &[]).expect_code(0);
    site.write("corin.txt", "Corin sold the blue lantern to Odd.\n");
    assert_eq!(counts(&jsonl(&site, &[]).expect_code(0)), [0, 1, 2, 0, 0]);
    let stats = site.stats();
    assert_eq!(
        (&stats["documents"], &stats["blobs"]),
        (&Value::from(3), &Value::from(3))
    );
    // Another chunk size re-ingests the documents and is not refused.
    assert_eq!(
        counts(&jsonl(&site, &["--chunk-tokens", "64"]).expect_code(0)),
        [0, 3, 0, 0, 0]
    );
}

#[test]
fn metadata_alone_is_a_change() {
    let site = Site::with_corpus();
    jsonl(&site, &[]).expect_code(0);
    site.write(
        "records.jsonl",
        "{\"id\": \"tor\", \"text\": \"Tor keeps the sword.\", \"metadata\": {\"world\": \"8\"}}\n",
    );
    let outcome = jsonl(&site, &[]).expect_code(0);
    assert_eq!(counts(&outcome), [0, 1, 2, 0, 0]);
    assert_eq!(
        outcome.finished()["kv_bytes"],
        0,
        "the KV of an unchanged text is kept"
    );
}

#[test]
fn prune_removes_what_vanished_and_only_with_the_whole_corpus_read() {
    let site = Site::with_corpus();
    jsonl(&site, &[]).expect_code(0);
    fs_err::remove_file(site.corpus().join("corin.txt")).unwrap();

    site.write("empty.txt", "");
    let with_failure = jsonl(&site, &["--prune"]).expect_code(3);
    assert_eq!(counts(&with_failure), [0, 0, 2, 0, 1]);
    with_failure.expect_error(&["nothing was pruned"]);
    fs_err::remove_file(site.corpus().join("empty.txt")).unwrap();

    assert_eq!(
        counts(&jsonl(&site, &["--prune"]).expect_code(0)),
        [0, 0, 2, 1, 0]
    );
    let stats = site.stats();
    assert_eq!(
        (&stats["documents"], &stats["chunks"]),
        (&Value::from(2), &Value::from(2))
    );
}

#[test]
fn without_kv_a_document_is_complete_until_kv_is_wanted() {
    let site = Site::with_corpus();
    assert_eq!(
        counts(&jsonl(&site, &["--no-kv"]).expect_code(0)),
        [3, 0, 0, 0, 0]
    );
    assert_eq!(site.stats()["blobs"], 0);
    assert_eq!(
        counts(&jsonl(&site, &["--no-kv"]).expect_code(0)),
        [0, 0, 3, 0, 0]
    );
    assert_eq!(counts(&jsonl(&site, &[]).expect_code(0)), [0, 3, 0, 0, 0]);
    assert_eq!(site.stats()["blobs"], 3);
}

#[test]
fn a_limited_ingest_is_continued_by_the_next() {
    let site = Site::with_corpus();
    assert_eq!(
        counts(&jsonl(&site, &["--limit", "2"]).expect_code(0)),
        [2, 0, 0, 0, 0]
    );
    assert_eq!(counts(&jsonl(&site, &[]).expect_code(0)), [1, 0, 2, 0, 0]);
}

#[test]
fn a_dry_run_counts_and_writes_nothing() {
    let site = Site::with_corpus();
    let outcome = site.ingest(&["--dry-run"]).expect_code(0);
    assert!(
        outcome.stdout.contains("brindle.md: 1 chunks"),
        "{}",
        outcome.stdout
    );
    assert!(
        outcome.stdout.contains("3 documents, 3 chunks"),
        "{}",
        outcome.stdout
    );
    assert!(!site.data().exists());
}

/// The bytes that a dry run foresees: of the segment files, and of the records in them.
fn foreseen(outcome: &Outcome) -> [u64; 2] {
    let (_, sizes) = outcome.stdout.split_once("on disk (").unwrap();
    let words: Vec<&str> = sizes.split_whitespace().collect();
    assert_eq!(
        (words[1], words[2..4].join(" ")),
        ("bytes,", "of which".to_owned())
    );
    [words[0], words[4]].map(|bytes| bytes.parse().unwrap())
}

#[test]
fn a_dry_run_foresees_the_size_of_the_kv_to_the_byte() {
    let site = Site::new();
    let text = |n: usize| -> String {
        (0..n)
            .map(|i| format!("Lamp {i} is red in Brenby. "))
            .collect()
    };
    site.write("long.txt", text(120));
    site.write("same.txt", text(120));
    site.write("other.txt", format!("Yara sings. {}", text(40)));
    for kv_dtype in ["f32", "int8"] {
        let data = site.root.path().join(kv_dtype);
        let data = data.to_str().unwrap();
        let args = [
            "--kv-dtype",
            kv_dtype,
            "--chunk-tokens",
            "48",
            // Several segment files.
            "--set",
            "store.max_segment_bytes=200000",
            "--data",
            data,
        ];
        let ingest = |more: &[&str]| {
            let mut command = ragweave();
            command
                .arg("ingest")
                .arg(site.corpus())
                .arg("--model")
                .arg(&site.model);
            Outcome::of(command.args(args).args(more)).expect_code(0)
        };
        let foreseen = foreseen(&ingest(&["--dry-run"]));
        ingest(&[]);
        let stats = Outcome::of(ragweave().args(["store", "stats", "--json", "--data", data]));
        let stats: Value = serde_json::from_str(&stats.expect_code(0).stdout).unwrap();
        let found = ["total_bytes", "live_bytes"].map(|name| stats[name].as_u64().unwrap());
        assert_eq!(foreseen, found, "{kv_dtype}");
        assert!(stats["segments"].as_u64().unwrap() > 2, "{stats}");
        assert!(
            stats["blobs"].as_u64() < stats["chunks"].as_u64(),
            "equal chunks are stored once"
        );
    }
}

#[test]
fn a_dry_run_warns_of_a_disk_that_is_too_small() {
    let site = Site::with_corpus();
    let fits = site.ingest(&["--dry-run"]).expect_code(0);
    assert!(fits.stdout.contains("are free at") && !fits.stdout.contains("warning"));
    let kept_free = format!("store.min_free_bytes={}", i64::MAX);
    let small = site
        .ingest(&["--dry-run", "--set", &kept_free])
        .expect_code(0);
    assert!(
        small.stdout.contains("not enough unless"),
        "{}",
        small.stdout
    );
}

#[test]
fn the_stored_type_is_int8_unless_told_and_then_that_of_the_store() {
    let site = Site::with_corpus();
    site.ingest(&[]).expect_code(0);
    let identity = |site: &Site| site.stats()["identity"].as_str().unwrap().to_owned();
    assert!(identity(&site).contains("KV in int8"));
    let site = Site::with_corpus();
    let started = site.ingest(&["--kv-dtype", "f32"]).expect_code(0);
    assert!(
        started.stderr.contains("bytes per token on disk"),
        "{}",
        started.stderr
    );
    // Without the flag, with it set to auto, and from the environment.
    site.ingest(&[]).expect_code(0);
    site.ingest(&["--kv-dtype", "auto"]).expect_code(0);
    let mut command = site.ingest_command(&[]);
    Outcome::of(command.env("RAGWEAVE_KV_DTYPE", "auto")).expect_code(0);
    assert!(identity(&site).contains("KV in f32"));
    let refused = site.ingest(&["--kv-dtype", "int8"]).expect_code(2);
    refused.expect_error(&["stored in f32, not int8", "--kv-dtype f32"]);
}

#[test]
fn doctor_tells_what_kv_takes_before_any_is_written_and_a_type_that_the_store_does_not_have() {
    let site = Site::with_corpus();
    let doctor = |flags: &[&str]| {
        let mut command = ragweave();
        command.args(["doctor", "--data"]).arg(site.data());
        Outcome::of(command.arg("--model").arg(&site.model).args(flags))
    };
    let before = doctor(&[]).expect_code(0).stdout;
    for words in ["int8 takes ", "f32 ", "f16 ", "the disk has room for "] {
        let line = before
            .lines()
            .find(|line| line.contains("kv size"))
            .unwrap();
        assert!(line.contains(words), "no {words} in {line}");
    }
    assert!(!site.data().exists());
    let kept_free = format!("store.min_free_bytes={}", i64::MAX);
    let full = doctor(&["--set", &kept_free]).expect_code(1).stdout;
    assert!(
        full.contains("warn  kv size") && full.contains("room for 0 tokens"),
        "{full}"
    );
    assert!(full.contains("FAIL  disk"), "{full}");

    site.ingest(&["--kv-dtype", "f32"]).expect_code(0);
    assert!(doctor(&[]).expect_code(0).stdout.contains("f32 takes "));
    let other = doctor(&["--kv-dtype", "int8"]).expect_code(1).stdout;
    assert!(
        other.contains("holds KV in f32, and kv_dtype is int8"),
        "{other}"
    );
}

#[test]
fn long_documents_become_chunks_within_the_budget() {
    let site = Site::new();
    let text: String = (0..200)
        .map(|i| format!("The lamp number {i} is red. "))
        .collect();
    site.write("long.txt", &text);
    let outcome = jsonl(&site, &["--chunk-tokens", "48"]).expect_code(0);
    let committed = &outcome.events()[0];
    let n_chunks = committed["chunks"].as_array().unwrap().len() as u64;
    assert!(n_chunks > 20, "{n_chunks}");
    assert!(committed["tokens"].as_u64().unwrap() <= 48 * n_chunks);
}

#[test]
fn an_interrupt_ends_after_a_whole_document_and_the_next_run_goes_on() {
    let site = Site::new();
    for i in 0..300 {
        site.write(
            &format!("{i:03}.txt"),
            format!("The lamp number {i} is kept in Brenby. ").repeat(20),
        );
    }
    let mut child = site
        .ingest_command(&["--progress", "jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    let rest: Vec<Value> = lines
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let finished = rest.last().unwrap();
    assert_eq!(finished["event"], "finished", "the run reports its totals");
    let added = finished["added"].as_u64().unwrap();
    assert!((1..300).contains(&added), "{added}");
    assert_eq!(site.stats()["documents"], added);

    let next = jsonl(&site, &[]).expect_code(0);
    assert_eq!(counts(&next), [300 - added, 0, added, 0, 0]);
}

#[test]
fn a_directory_held_by_a_server_takes_documents_through_it() {
    let site = Site::with_corpus();
    jsonl(&site, &["--limit", "1"]).expect_code(0);
    let server = Serving::start(&site);

    jsonl(&site, &[])
        .expect_code(1)
        .expect_error(&["is in use", "--addr"]);
    let send = || {
        Outcome::of(
            ragweave()
                .arg("ingest")
                .arg(site.corpus())
                .args(["--addr", &server.url]),
        )
    };
    let first = send().expect_code(0);
    assert!(
        first
            .stdout
            .starts_with("2 added, 0 replaced, 1 unchanged, 0 failed"),
        "{}",
        first.stdout
    );
    site.write("latin1.txt", b"caf\xe9");
    let second = send().expect_code(3).expect_error(&["UTF-8"]);
    assert!(
        second
            .stdout
            .starts_with("0 added, 0 replaced, 3 unchanged, 1 failed"),
        "{}",
        second.stdout
    );

    drop(server); // its lock too
    assert_eq!(site.stats()["documents"], 3);
    // Offline and online ingest store the same data for a document.
    fs_err::remove_file(site.corpus().join("latin1.txt")).unwrap();
    assert_eq!(counts(&jsonl(&site, &[]).expect_code(0)), [0, 0, 3, 0, 0]);
}

#[test]
fn without_a_server_the_address_is_named() {
    let site = Site::with_corpus();
    let mut command = ragweave();
    let sent = Outcome::of(
        command
            .arg("ingest")
            .arg(site.corpus())
            .args(["--addr", "127.0.0.1:1"]),
    );
    sent.expect_code(1)
        .expect_error(&["127.0.0.1:1", "ragweave serve"]);
}
