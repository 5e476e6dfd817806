//! Bad input to the commands that open a model or a data directory: each gives an error that names the fault and what
//! to do, and the documented exit code, without a panic.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

#[path = "bad_input/opening.rs"]
mod opening;

use std::process::Stdio;

use serde_json::{Value, json};
use support::{Outcome, Site, model, ragweave};

/// Ingests with a model whose `config.json` has been edited.
fn with_config(edit: impl FnOnce(&mut Value)) -> Outcome {
    let mut site = Site::with_corpus();
    let path = site.copy_model().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    edit(&mut config);
    fs_err::write(&path, config.to_string()).unwrap();
    site.ingest(&[]).expect_code(1)
}

/// Ingests with a model that has one damaged file.
fn with_damage(file: &str, damage: impl FnOnce(&mut Vec<u8>)) -> Outcome {
    let mut site = Site::with_corpus();
    let path = site.copy_model().join(file);
    let mut bytes = fs_err::read(&path).unwrap();
    damage(&mut bytes);
    fs_err::write(&path, bytes).unwrap();
    site.ingest(&[]).expect_code(1)
}

#[test]
fn a_missing_weight_file_is_named() {
    let mut site = Site::with_corpus();
    fs_err::remove_file(site.copy_model().join("model.safetensors")).unwrap();
    site.ingest(&[])
        .expect_code(1)
        .expect_error(&["safetensors"]);
    assert!(
        !site.data().exists(),
        "no data directory is made for a model that does not load"
    );
}

#[test]
fn truncated_and_corrupt_weight_files_are_named() {
    let file = "model.safetensors";
    with_damage(file, |bytes| bytes.truncate(bytes.len() / 2)).expect_error(&[file]);
    with_damage(file, Vec::clear).expect_error(&[file]);
    with_damage(file, |bytes| bytes[..8].fill(0xff)).expect_error(&[file]);
    with_damage(file, |bytes| bytes[9..40].fill(b'x')).expect_error(&[file]);
}

#[test]
fn unreadable_model_files_are_named() {
    with_damage("config.json", |bytes| bytes.truncate(20)).expect_error(&["config.json"]);
    with_damage("tokenizer.json", |bytes| bytes.truncate(200)).expect_error(&["tokenizer.json"]);
}

#[test]
fn an_unknown_architecture_or_rope_type_is_named() {
    let architecture = |config: &mut Value| {
        config["architectures"] = json!(["MambaForCausalLM"]);
        config["model_type"] = json!("mamba");
    };
    with_config(architecture).expect_error(&["MambaForCausalLM"]);
    for unsupported in ["dynamic", "longrope", "spiral"] {
        let rope = |config: &mut Value| {
            let fields = config.as_object_mut().unwrap();
            fields.remove("rope_parameters");
            fields.insert("rope_theta".to_owned(), json!(10000.0));
            let scaling = json!({"rope_type": unsupported, "factor": 2.0});
            fields.insert("rope_scaling".to_owned(), scaling);
        };
        with_config(rope).expect_error(&[unsupported]);
    }
}

#[test]
fn a_model_without_a_tokenizer_cannot_ingest_text() {
    let mut site = Site::with_corpus();
    fs_err::remove_file(site.copy_model().join("tokenizer.json")).unwrap();
    site.ingest(&[])
        .expect_code(2)
        .expect_error(&["tokenizer.json"]);
}

#[test]
fn a_store_of_another_model_is_refused_with_both_names() {
    let mut site = Site::with_corpus();
    site.ingest(&[]).expect_code(0);
    site.model = model("tiny-llama3-chat");
    let refused = site.ingest(&[]).expect_code(2);
    refused.expect_error(&[
        "tiny-qwen3",
        "tiny-llama3-chat",
        "fingerprint",
        "--allow-recompute",
    ]);
    // If it is opened anyway, it accepts no documents: their vectors and ids would not match the others.
    site.write("new.txt", "A new note.");
    let foreign = site.ingest(&["--allow-recompute"]).expect_code(1);
    foreign.expect_error(&["another --data directory"]);
}

#[test]
fn another_stored_type_or_prompt_is_another_store() {
    let site = Site::with_corpus();
    site.ingest(&["--kv-dtype", "f32"]).expect_code(0);
    site.ingest(&["--kv-dtype", "f16"])
        .expect_code(2)
        .expect_error(&["KV in f32", "KV in f16"]);
    site.ingest(&["--system", "Be brief."])
        .expect_code(2)
        .expect_error(&["prompt format"]);
}

#[test]
fn an_empty_corpus_is_an_error() {
    let site = Site::new();
    site.ingest(&[])
        .expect_code(1)
        .expect_error(&["no documents under the given paths"]);
}

#[test]
fn bad_documents_are_listed_and_the_good_ones_ingested() {
    let site = Site::with_corpus();
    site.write("empty.txt", "");
    site.write("latin1.txt", b"caf\xe9 au lait");
    site.write(
        "broken.jsonl",
        "{\"id\": \"x\"\n{\"id\": \"y\", \"text\": \"Yara sings.\"}\n",
    );
    site.write("big.txt", "word ".repeat(300_000));
    std::os::unix::fs::symlink("/nonexistent/file.txt", site.corpus().join("gone.txt")).unwrap();
    let outcome = site
        .ingest(&[
            "--progress",
            "jsonl",
            "--set",
            "limits.max_document_bytes=1000000",
        ])
        .expect_code(3);
    let finished = outcome.finished();
    assert_eq!(
        (&finished["added"], &finished["failed"]),
        (&json!(4), &json!(5))
    );

    let listed = fs_err::read_to_string(site.data().join("failures.jsonl")).unwrap();
    let failures: Vec<Value> = listed
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let reason = |name: &str| {
        let found = failures
            .iter()
            .find(|f| f["path"].as_str().unwrap().ends_with(name));
        found.unwrap_or_else(|| panic!("{name} is not in {listed}"))["error"]
            .as_str()
            .unwrap()
    };
    assert!(reason("latin1.txt").contains("UTF-8"));
    assert!(reason("big.txt").contains("1000000"));
    assert!(reason("gone.txt").contains("cannot read it"));
    assert!(!reason("empty.txt").is_empty());
    assert!(
        failures.iter().any(|f| f["line"] == 1),
        "the bad line of broken.jsonl: {listed}"
    );

    // A later run without failures removes the list.
    for name in [
        "empty.txt",
        "latin1.txt",
        "broken.jsonl",
        "big.txt",
        "gone.txt",
    ] {
        fs_err::remove_file(site.corpus().join(name)).unwrap();
    }
    site.ingest(&[]).expect_code(0);
    assert!(!site.data().join("failures.jsonl").exists());
}

#[test]
fn a_path_that_is_not_there_is_a_failure_not_an_empty_corpus() {
    let site = Site::with_corpus();
    fs_err::remove_dir_all(site.corpus()).unwrap();
    site.ingest(&[])
        .expect_code(3)
        .expect_error(&["corpus", "failures are listed in"]);
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let site = Site::with_corpus();
    fs_err::create_dir(site.data()).unwrap();
    fs_err::write(site.data().join("thesis.doc"), "mine").unwrap();
    site.ingest(&[])
        .expect_code(2)
        .expect_error(&["is not a ragweave data directory"]);
    assert_eq!(fs_err::read_dir(site.data()).unwrap().count(), 1);
    for command in ["stats", "verify"] {
        site.store(command)
            .expect_code(2)
            .expect_error(&["is not a ragweave data directory"]);
    }
}

#[test]
fn a_configuration_file_may_wait_in_a_data_directory_that_is_still_empty() {
    let site = Site::with_corpus();
    fs_err::create_dir(site.data()).unwrap();
    fs_err::write(
        site.data().join("ragweave.toml"),
        "[ingest]\nchunk_tokens = 64\n",
    )
    .unwrap();
    site.ingest(&[]).expect_code(0);
}

#[test]
fn a_locked_store_says_how_to_reach_its_server() {
    let site = Site::new();
    for i in 0..400 {
        site.write(
            &format!("{i}.txt"),
            "The lamp is kept in Brenby. ".repeat(30),
        );
    }
    let mut holder = site
        .ingest_command(&["--progress", "jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // After its first event it holds the directory lock and has several hundred documents left to ingest.
    let mut line = String::new();
    let out = holder.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();

    let refused = site.ingest(&[]).expect_code(1);
    refused.expect_error(&[
        "is in use by another ragweave process",
        "ragweave ingest",
        "--addr",
    ]);
    site.store("stats")
        .expect_code(1)
        .expect_error(&["is in use"]);
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn a_full_disk_stops_the_run_and_keeps_what_is_committed() {
    let site = Site::with_corpus();
    site.ingest(&["--limit", "1"]).expect_code(0);
    let full = site
        .ingest(&["--set", "store.min_free_bytes=9000000000000000"])
        .expect_code(1);
    full.expect_error(&["no space in", "run the same command to continue"]);
    assert_eq!(site.stats()["documents"], 1);
    site.ingest(&[]).expect_code(0);
    assert_eq!(site.stats()["documents"], 3);
}

#[test]
fn a_failing_write_stops_the_run_and_keeps_what_is_committed() {
    let site = Site::with_corpus();
    site.ingest(&["--limit", "1"]).expect_code(0);
    // Files may not grow over 4 blocks of 1 KiB from here on; the signal that would kill is ignored.
    let limited = "trap '' XFSZ; ulimit -f 4; exec \"$@\"";
    let command = site.ingest_command(&["--chunk-tokens", "64"]);
    let mut shell = std::process::Command::new("bash");
    shell
        .args(["-c", limited, "bash"])
        .arg(command.get_program())
        .args(command.get_args());
    Outcome::of(&mut shell)
        .expect_code(1)
        .expect_error(&["ragweave:"]);
    assert_eq!(site.stats()["documents"], 1);
    let verified: Value =
        serde_json::from_str(&site.store("verify").expect_code(0).stdout).unwrap();
    assert_eq!(verified["bad"], json!([]));
    site.ingest(&[]).expect_code(0);
    assert_eq!(site.stats()["documents"], 3);
}

#[test]
fn settings_that_do_not_fit_are_usage_errors() {
    let site = Site::with_corpus();
    site.ingest(&["--chunk-tokens", "1000000"])
        .expect_code(2)
        .expect_error(&["--chunk-tokens"]);
    site.ingest(&["--chunk-tokens", "9"])
        .expect_code(2)
        .expect_error(&["raise --chunk-tokens"]);
    site.ingest(&["--device", "tpu"])
        .expect_code(2)
        .expect_error(&["cpu, cuda:N or vulkan:N"]);
    site.ingest(&["--dtype", "f8"])
        .expect_code(2)
        .expect_error(&["flag --dtype", "f32, f16, bf16"]);
    let mistyped = site
        .ingest(&["--set", "ingest.chunk_token=5"])
        .expect_code(2);
    mistyped.expect_error(&["did you mean ingest.chunk_tokens?"]);
    let unnamed = Outcome::of(ragweave().args(["ingest", "x"])).expect_code(2);
    unnamed.expect_error(&["--data DIR", "RAGWEAVE_DATA"]);
}
