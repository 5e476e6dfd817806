//! Mistakes that are refused before any work: settings that the model cannot run, addresses with a scheme that is not
//! served, metadata that no answer could carry. Also settings that look like a mistake but are valid.

use serde_json::json;

use crate::support::{Outcome, Serving, Site, ragweave};

/// `ragweave COMMAND --data .. --model .. ARGS`.
fn opening(site: &Site, command: &str, args: &[&str]) -> Outcome {
    let mut process = ragweave();
    process
        .arg(command)
        .args(args)
        .arg("--data")
        .arg(site.data());
    Outcome::of(process.arg("--model").arg(&site.model))
}

/// Every command that opens model and data directory refuses with the same message.
#[track_caller]
fn expect_refused(site: &Site, args: &[&str], words: &[&str]) {
    site.ingest(args).expect_code(2).expect_error(words);
    let dry = [&["--dry-run"], args].concat();
    site.ingest(&dry).expect_code(2).expect_error(words);
    let serve = [&["--listen", "127.0.0.1:0"], args].concat();
    opening(site, "serve", &serve)
        .expect_code(2)
        .expect_error(words);
    let report = opening(site, "doctor", args).expect_code(1);
    let lines: Vec<_> = report
        .stdout
        .lines()
        .filter(|line| line.starts_with("FAIL"))
        .collect();
    let tells = |line: &&str| words.iter().all(|word| line.contains(word));
    assert!(lines.iter().any(tells), "{words:?}: {lines:#?}");
}

#[test]
fn fusion_that_the_model_cannot_run_is_refused_when_it_is_opened() {
    let mut site = Site::with_corpus();
    site.ingest(&[]).expect_code(0);
    let layer = ["fusion.selection in flag --set: layer 99 is too deep for a model of 3 layers"];
    expect_refused(&site, &["--set", "fusion.selection=hkvd@99"], &layer);
    let mut check = ragweave();
    check
        .args([
            "config",
            "check",
            "--set",
            "fusion.selection=hkvd@99",
            "--data",
        ])
        .arg(site.data());
    Outcome::of(check.arg("--model").arg(&site.model))
        .expect_code(2)
        .expect_error(&layer);
    // Full prefill selects nothing, but a request may ask for a mode that does.
    let other = [
        "--set",
        "fusion.selection=hkvd@99",
        "--set",
        "fusion.mode=full",
    ];
    expect_refused(&site, &other, &layer);
    let selection = ["fusion.selection in flag --set", "9 is too deep"];
    expect_refused(
        &site,
        &["--set", "fusion.selection=first-k+anchors@9"],
        &selection,
    );
    let removed = [
        "fusion.check_layer in flag --set is no longer a setting",
        "hkvd@2",
    ];
    expect_refused(&site, &["--set", "fusion.check_layer=2"], &removed);

    let tuned = site.data().join("tuned.toml");
    fs_err::write(&tuned, "[fusion]\nselection = \"hkvd@7\"\n").unwrap();
    expect_refused(
        &site,
        &[],
        &[
            "fusion.selection in file",
            "tuned.toml: layer 7 is too deep",
        ],
    );
    fs_err::remove_file(tuned).unwrap();
    let of_model = site.copy_model().join("ragweave.toml");
    fs_err::write(of_model, "[fusion]\nselection = \"hkvd@3\"\n").unwrap();
    expect_refused(
        &site,
        &[],
        &[
            "fusion.selection in file",
            "ragweave.toml: layer 3 is too deep",
        ],
    );
}

#[test]
fn a_prompt_that_leaves_no_room_is_refused_when_it_is_opened() {
    let site = Site::with_corpus();
    site.ingest(&[]).expect_code(0);
    let words = ["no room for more", "shorten `system`"];
    expect_refused(&site, &["--system", &"Be brief. ".repeat(2000)], &words);
    expect_refused(&site, &["--max-model-len", "30"], &words);
    // A format without a place for it.
    let strings = ["prefix=Notes.", "chunk={text}", "question={question}"];
    let strings = strings.map(|string| format!("prompt.{string}"));
    let set = strings.iter().flat_map(|string| ["--set", string.as_str()]);
    let args: Vec<_> = set.chain(["--system", "Be brief."]).collect();
    site.ingest(&args)
        .expect_code(2)
        .expect_error(&["system in flag --system", "no place for a system text"]);
}

#[test]
fn the_doctor_says_what_will_be_dropped() {
    let site = Site::with_corpus();
    site.ingest(&[]).expect_code(0);
    let report = opening(&site, "doctor", &["--max-model-len", "1000"]).expect_code(0);
    let said = "passages of ingest.chunk_tokens (512) fit the context of 1000 tokens";
    assert!(report.stdout.contains(said), "{}", report.stdout);
}

#[test]
fn variables_of_kubernetes_services_are_not_settings() {
    let site = Site::with_corpus();
    let of_services = [
        ("RAGWEAVE_PORT", "tcp://10.0.0.1:50051"),
        ("RAGWEAVE_SERVICE_HOST", "10.0.0.1"),
        ("RAGWEAVE_PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("RAGWEAVE_GRPC_SERVICE_HOST", "10.0.0.1"),
        ("RAGWEAVE_GRPC_SERVICE_PORT", "50051"),
        ("RAGWEAVE_GRPC_SERVICE_PORT_HTTP", "50051"),
        ("RAGWEAVE_GRPC_PORT", "tcp://10.0.0.1:50051"),
        ("RAGWEAVE_SERVER_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
        ("RAGWEAVE_SERVER_PORT_50051_TCP_PROTO", "tcp"),
        ("RAGWEAVE_SERVER_PORT_50051_TCP_PORT", "50051"),
        ("RAGWEAVE_DATA_PORT", "tcp://10.0.0.2:80"),
        ("RAGWEAVE_FUSION_SERVICE_HOST", "10.0.0.3"),
    ];
    Outcome::of(site.ingest_command(&[]).envs(of_services)).expect_code(0);
    let mut doctor = ragweave();
    doctor
        .arg("doctor")
        .arg("--data")
        .arg(site.data())
        .arg("--model")
        .arg(&site.model);
    Outcome::of(doctor.envs(of_services)).expect_code(0);
    // Counts as not set, not as a typing error.
    let empty = [("RAGWEAVE_DATA", ""), ("RAGWEAVE_LIMITS_MAX_QUEUE", "")];
    Outcome::of(site.ingest_command(&[]).envs(empty)).expect_code(0);

    for (name, value) in [
        ("RAGWEAVE_FUSION_RATION", "0.1"),
        ("RAGWEAVE_LISTEN_PORT", "50051"),
        ("RAGWEAVE_PORT", "50051"),
    ] {
        Outcome::of(site.ingest_command(&[]).env(name, value))
            .expect_code(2)
            .expect_error(&["unknown key", name]);
    }
}

#[test]
fn an_address_that_asks_for_tls_is_refused_by_every_client() {
    let site = Site::with_corpus();
    let corpus = site.corpus().display().to_string();
    for client in [
        &["query", "Who?"][..],
        &["retrieve", "Who?"],
        &["ingest", &corpus],
        &["store", "stats"],
    ] {
        for (addr, word) in [
            ("https://rag.example:50051", "TLS"),
            ("HTTPS://127.0.0.1:1", "TLS"),
            ("grpc://127.0.0.1:1", "scheme grpc://"),
            ("unix:///run/rag.sock", "scheme unix://"),
            ("http://127.0.0.1", "names no port"),
            ("http://127.0.0.1:1/v1", "after the port"),
        ] {
            Outcome::of(ragweave().args(client).args(["--addr", addr]))
                .expect_code(2)
                .expect_error(&[word, "write http://"]);
        }
    }
    let listen = ["--listen", "https://127.0.0.1:50051"];
    opening(&site, "serve", &listen)
        .expect_code(2)
        .expect_error(&["no TLS", "IP:PORT"]);
}

/// Both offline and through a server, a record with too much metadata is one failure.
#[test]
fn large_metadata_fails_alone() {
    let site = Site::with_corpus();
    site.ingest(&[]).expect_code(0);
    let record = |id: &str, bytes: usize| {
        let metadata = json!({"blob": "x".repeat(bytes)});
        let text = format!("Record {id} of the harbour.");
        json!({"id": id, "text": text, "metadata": metadata}).to_string()
    };
    let sizes = [
        ("r1", 10),
        ("r2", 5 << 20),
        ("r3", 30_000),
        ("r4", 40_000),
        ("r5", 10),
    ];
    let lines = sizes.map(|(id, bytes)| record(id, bytes));
    site.write("large.jsonl", lines.join("\n"));

    let serving = Serving::start(&site);
    let mut sending = ragweave();
    sending
        .arg("ingest")
        .arg(site.corpus())
        .args(["--addr", &serving.url]);
    let sent = Outcome::of(&mut sending).expect_code(3).expect_error(&[
        "r2: its id and metadata have",
        "limits.max_message_bytes (4194304)",
        "r4: header.metadata: ",
        "limits.max_metadata_bytes (32768)",
    ]);
    let counts = "3 added, 0 replaced, 3 unchanged, 2 failed";
    assert!(sent.stdout.starts_with(counts), "{}", sent.stdout);
    drop(serving);

    let dry = site.ingest(&["--dry-run"]);
    for id in ["r2", "r4"] {
        let said = format!("would fail: {id}: the metadata has");
        assert!(dry.stdout.contains(&said), "{}", dry.stdout);
    }
    let again = site.ingest(&["--progress", "jsonl"]).expect_code(3);
    let finished = again.finished();
    assert_eq!(
        (&finished["unchanged"], &finished["failed"]),
        (&json!(6), &json!(2))
    );
    let listed = fs_err::read_to_string(site.data().join("failures.jsonl")).unwrap();
    assert!(listed.contains("r2") && listed.contains("limits.max_metadata_bytes (32768)"));
    assert!(listed.len() < 2000, "{listed}");
}

/// `ingest`, `serve` and `doctor` refuse an embedder with the same message, before the model is loaded.
#[track_caller]
fn expect_no_embedder(site: &Site, args: &[&str], words: &[&str]) {
    site.ingest(args).expect_code(2).expect_error(words);
    let serve = [&["--listen", "127.0.0.1:0"], args].concat();
    opening(site, "serve", &serve)
        .expect_code(2)
        .expect_error(words);
    let report = opening(site, "doctor", args).expect_code(1);
    let mut failures = report
        .stdout
        .lines()
        .filter(|line| line.starts_with("FAIL"));
    let tells = |line: &str| words.iter().all(|word| line.contains(word));
    assert!(failures.any(tells), "{words:?}: {}", report.stdout);
}

#[test]
fn an_embedder_that_cannot_be_opened_is_named_and_loses_nothing() {
    let site = Site::with_corpus();
    site.ingest(&[]).expect_code(0);
    expect_no_embedder(
        &site,
        &["--embedder", "no-such-dir"],
        &["no-such-dir", "not a directory"],
    );
    let words = ["embedder.model in flag --embedder", "unknown scheme"];
    expect_no_embedder(&site, &["--embedder", "ftp://h:1"], &words);
    let model = site.model.to_str().unwrap();
    expect_no_embedder(
        &site,
        &["--embedder", model],
        &["config.json", "model_type \"qwen3\""],
    );
    let unbuilt = ["--embedder", model, "--embedder-device", "gpu"];
    expect_no_embedder(&site, &unbuilt, &["embedder.device", "cuda:N"]);
    let report = opening(&site, "doctor", &[]);
    assert!(report.stdout.contains("lexical-bm25"), "{}", report.stdout);
    assert!(
        report.stdout.contains("all made by this embedder"),
        "{}",
        report.stdout
    );
}

#[test]
fn the_doctor_counts_vectors_of_another_embedder() {
    let site = Site::with_corpus();
    site.ingest(&[]).expect_code(0);
    let dir = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../retriever/tests/fixtures/embedders/bert-mean"
    );
    let report = opening(&site, "doctor", &["--embedder", dir]);
    let words = [
        "bert-mean: Bert, 2 layers, vectors of 32 numbers",
        "3 of 3 were made by another embedder",
    ];
    for word in words {
        assert!(report.stdout.contains(word), "{word}: {}", report.stdout);
    }
}

#[test]
fn the_key_of_a_remote_embedder_is_not_printed() {
    let site = Site::new();
    let mut process = ragweave();
    process
        .args(["config", "print"])
        .env("RAGWEAVE_EMBEDDER_API_KEY", "s3cret");
    process.env("RAGWEAVE_EMBEDDER", "http://h:1#m");
    let printed = Outcome::of(process.arg("--data").arg(site.data())).expect_code(0);
    assert!(
        printed
            .stdout
            .contains("environment RAGWEAVE_EMBEDDER_API_KEY"),
        "{}",
        printed.stdout
    );
    assert!(
        printed.stdout.contains("http://h:1#m"),
        "{}",
        printed.stdout
    );
    assert!(!printed.stdout.contains("s3cret"), "{}", printed.stdout);
}
