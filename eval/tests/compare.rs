//! `ragweave-eval compare` on a small corpus ingested with a tiny model of random weights.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::path::PathBuf;
use std::process::Command;

use ragweave_engine::{Mode, SamplingParams};
use ragweave_retriever::{DocumentFormat, SourceDocument};
use ragweave_server::components::{Components, OpenMode};
use ragweave_server::config::{CommonArgs, Config};
use ragweave_server::ingest::{IngestOptions, Ingestor};
use ragweave_server::pipeline::{Context, Pipeline, Query};
use serde_json::{Value, json};
use support::{Outcome, checkout, ragweave_eval};
use tempfile::TempDir;

const QUESTION: &str = "Where does the fox live?";
const CONTEXT: [&str; 3] = ["fox#0", "net#0", "tor#0"];

/// A data directory with three documents, and what the model answers in full prefill.
struct Site {
    dir: TempDir,
    full_answer: String,
}

impl Site {
    fn new(options: &IngestOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let args = CommonArgs {
            data: Some(dir.path().join("data")),
            model: Some(model()),
            kv_dtype: Some("f32".to_owned()),
            ..CommonArgs::default()
        };
        let config = Config::load(&args).unwrap();
        let components = Components::open(config, OpenMode::Ingest).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let full_answer = runtime.block_on(async {
            ingest(&components, options).await;
            answer(&components).await
        });
        // The runtime holds the pipeline's tasks, and with them the store's lock.
        drop(runtime);
        Self { dir, full_answer }
    }

    /// A questions file; `lines` are objects whose missing fields are filled in.
    fn questions(&self, lines: &[Value]) -> PathBuf {
        let path = self.dir.path().join("questions.jsonl");
        let line = |value: &Value| {
            let mut line = json!({"id": "q", "question": QUESTION, "answers": ["?"],
                "type": "local", "context_chunks": CONTEXT});
            line.as_object_mut()
                .unwrap()
                .extend(value.as_object().unwrap().clone());
            line.to_string()
        };
        fs_err::write(&path, lines.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap();
        path
    }

    fn compare(&self, questions: &[Value]) -> Command {
        let mut command = ragweave_eval();
        command
            .arg("compare")
            .arg("--data")
            .arg(self.dir.path().join("data"));
        command
            .arg("--model")
            .arg(model())
            .arg("--questions")
            .arg(self.questions(questions));
        command.args(["--max-tokens", "8"]);
        command
    }
}

fn model() -> PathBuf {
    checkout("server/tests/fixtures/tiny-qwen3")
}

async fn ingest(components: &Components, options: &IngestOptions) {
    let ingestor = Ingestor::new(components);
    for (id, text) in [
        ("fox", "The fox lives in Brindle, behind the old mill."),
        ("net", "Corin mends nets in the harbour."),
        ("tor", "Tor keeps a sword under the stairs."),
    ] {
        let source = SourceDocument {
            id: id.to_owned(),
            text: text.to_owned(),
            metadata: Default::default(),
            format: DocumentFormat::Text,
        };
        ingestor.ingest(source, options).await.unwrap();
    }
}

async fn answer(components: &Components) -> String {
    let query = Query::new(QUESTION, &components.config, 4096);
    let query = Query {
        mode: Mode::Full.into(),
        sampling: SamplingParams::greedy(8),
        context: Context::Chunks(CONTEXT.map(str::to_owned).to_vec()),
        ..query
    };
    let answer = Pipeline::new(components).answer_whole(query).await.unwrap();
    assert!(
        !answer.text.trim().is_empty(),
        "the tiny model says something"
    );
    answer.text
}

#[test]
fn modes_stand_side_by_side_with_scores_counts_and_recall() {
    let site = Site::new(&IngestOptions::default());
    let questions = [
        json!({"id": "known", "answers": ["no", site.full_answer], "gold_chunks": ["fox#0"]}),
        json!({"id": "unknown", "type": "far", "gold_chunks": ["fox#0", "nowhere#0"]}),
    ];
    let mut command = site.compare(&questions);
    command.args(["--json", "--repeats", "2", "--top-k", "1"]);
    command.args(["--modes", "full,reuse,hkvd@1:0.2,first-k:0.2,all"]);

    let report = Outcome::of(&mut command).json();

    let rows = report["rows"].as_array().unwrap();
    let specs: Vec<&str> = rows
        .iter()
        .map(|row| row["spec"].as_str().unwrap())
        .collect();
    assert_eq!(specs, ["full", "reuse", "hkvd@1:0.2", "first-k:0.2", "all"]);
    // Full prefill gives what it gave before, and recomputing every row must give the same.
    for row in [&rows[0], &rows[4]] {
        assert_eq!(row["exact_match"], 0.5, "{row}");
        assert_eq!(row["by_type"]["local"], json!({"n": 1, "exact_match": 1.0}));
        assert_eq!(row["by_type"]["far"], json!({"n": 1, "exact_match": 0.0}));
    }
    for row in rows {
        assert_eq!(row["n"], 2);
        assert_eq!(row["chunks_missed"], 0);
        assert!(row["ttft_ms_p50"].as_f64().unwrap() > 0.0);
        assert!(row["ttft_ms_p95"].as_f64() >= row["ttft_ms_p50"].as_f64());
    }
    assert_eq!(rows[0]["recomputed_share"], Value::Null);
    assert_eq!(rows[1]["recomputed_share"], 0.0);
    let blend = &rows[2];
    assert_eq!(
        (&blend["mode"], &blend["policy"]),
        (&json!("blend"), &json!("hkvd@1"))
    );
    assert_eq!(
        (&blend["ratio"], &blend["check_layer"]),
        (&json!(0.2), &json!(1))
    );
    let share = blend["recomputed_share"].as_f64().unwrap();
    assert!(
        share > 0.0 && share < 0.2,
        "the exact first chunk is loaded and not recomputed: {share}"
    );
    assert_eq!(
        report["retrieval"],
        json!({"top_k": 1, "n": 2, "recall": 0.5})
    );
}

#[test]
fn the_default_modes_are_printed_as_a_table() {
    let site = Site::new(&IngestOptions::default());
    let outcome = Outcome::of(&mut site.compare(&[json!({})]));
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    let rows: Vec<&str> = outcome
        .stdout
        .lines()
        .skip_while(|line| !line.starts_with("mode"))
        .collect();
    // Header, full, reuse, four policies at four ratios, a blank line, retrieval.
    assert_eq!(rows.len(), 1 + 2 + 16 + 2, "{}", outcome.stdout);
    assert!(
        rows[0].contains("exact match") && rows[0].ends_with("local"),
        "{}",
        rows[0]
    );
}

#[test]
fn a_corpus_without_kv_is_reported_and_not_passed_off_as_reuse() {
    let site = Site::new(&IngestOptions { no_kv: true });
    let mut command = site.compare(&[json!({"context_chunks": ["tor#0"]})]);
    let outcome = Outcome::of(command.args(["--json", "--modes", "reuse"]));
    let missed = outcome.json()["rows"][0]["chunks_missed"].as_u64().unwrap();
    // The warm-up missed it and asked for its KV, which may be there by the first measured answer.
    assert!(missed <= 1);
    assert_eq!(
        outcome.stderr.contains("without stored KV"),
        missed == 1,
        "{}",
        outcome.stderr
    );
}

#[test]
fn bad_input_is_refused_by_name() {
    let site = Site::new(&IngestOptions::default());
    let unknown_chunk = [
        json!({}),
        json!({"id": "lost", "context_chunks": ["fox#7"]}),
    ];
    let mut command = site.compare(&unknown_chunk);
    Outcome::of(command.args(["--modes", "full"])).expect_error(&["lost", "full", "fox#7"]);
    let cases: [(&[&str], &[&str]); 4] = [
        (&["--modes", "full,best:0.1"], &["--modes", "best"]),
        (&["--modes", "hkvd@7:0.1"], &["hkvd@7:0.1", "too deep"]),
        (&["--limit", "0"], &["--limit", "at least 1"]),
        (&["--top-k", "0"], &["--top-k", "at least 1"]),
    ];
    for (args, words) in cases {
        Outcome::of(site.compare(&[json!({})]).args(args)).expect_error(words);
    }
    Outcome::of(&mut site.compare(&[json!({"answers": "Brindle"})]))
        .expect_error(&["questions.jsonl:1", "column"]);
    let mut command = ragweave_eval();
    let nowhere = site.dir.path().join("nowhere");
    command
        .arg("compare")
        .arg("--data")
        .arg(&nowhere)
        .arg("--model")
        .arg(model());
    command.arg("--questions").arg(site.questions(&[json!({})]));
    Outcome::of(&mut command).expect_error(&["nowhere", "not a ragweave data directory"]);
}
