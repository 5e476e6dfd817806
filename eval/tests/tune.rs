//! `ragweave-eval tune` over a small corpus of the demo model's kind.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use ragweave_engine::Mode;
use ragweave_eval::dataset::{self, Example, Making};
use ragweave_retriever::{DocumentFormat, SourceDocument};
use ragweave_server::components::{Components, OpenMode};
use ragweave_server::config::{CommonArgs, Config};
use ragweave_server::ingest::{IngestOptions, Ingestor};
use serde_json::{Value, json};
use support::{Outcome, checkout, ragweave_eval};
use tempfile::TempDir;

const N_QUESTIONS: usize = 80;
/// Some that keep the demo model's answers and some that do not.
const POLICIES: [&str; 2] = ["--policies", "hkvd@1,hkvd@2,hkvd@2/gradual,first-k"];

/// Wider than the defaults: of few questions, one on which a mode differs weighs much.
const MAX_LOSS: f64 = 0.1;
const MAX_KL: f64 = 0.3;
const MIN_TOP1: f64 = 0.8;

fn limits() -> Vec<String> {
    let limits = [
        ("--max-loss", MAX_LOSS),
        ("--max-kl", MAX_KL),
        ("--min-top1", MIN_TOP1),
    ];
    let flag = |(flag, limit): (&str, f64)| [flag.to_owned(), limit.to_string()];
    limits.into_iter().flat_map(flag).collect()
}

/// A data directory and questions over it.
struct Site {
    dir: TempDir,
}

impl Site {
    fn new() -> Self {
        Self::of(&examples())
    }

    fn of(examples: &[Example]) -> Self {
        let site = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let components = Components::open(site.config(), OpenMode::Ingest).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(ingest(&components, examples));
        let lines: Vec<String> = examples.iter().map(line).collect();
        fs_err::write(site.questions(), lines.join("\n")).unwrap();
        // The runtime holds the ingestor's tasks, and with them the store's lock.
        drop(runtime);
        site
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn questions(&self) -> PathBuf {
        self.dir.path().join("questions.jsonl")
    }

    fn config(&self) -> Config {
        let args = CommonArgs {
            data: Some(self.data()),
            model: Some(checkout("demo/model")),
            kv_dtype: Some("f32".to_owned()),
            ..CommonArgs::default()
        };
        Config::load(&args).unwrap()
    }

    fn tune(&self) -> Command {
        let mut command = ragweave_eval();
        command
            .args(["tune", "--model"])
            .arg(checkout("demo/model"));
        command.arg("--data").arg(self.data());
        command.args(["--first", "4", "--ratios", "0.05,0.15"]);
        command
    }
}

fn examples() -> Vec<Example> {
    let making = Making {
        seeds: &[31],
        count_tokens: &|text| text.len(),
    };
    let demo = dataset::open("demo", Some(N_QUESTIONS), &making);
    demo.unwrap().examples
}

fn chunk_ids(example: &Example) -> Vec<String> {
    let number = |n| format!("{}/{n}#0", example.id);
    (0..example.documents.len()).map(number).collect()
}

fn line(example: &Example) -> String {
    json!({
        "question": example.question,
        "answers": example.answers,
        "context_chunks": chunk_ids(example),
    })
    .to_string()
}

async fn ingest(components: &Components, examples: &[Example]) {
    let ingestor = Ingestor::new(components);
    for example in examples {
        for (n, text) in example.documents.iter().enumerate() {
            let document = SourceDocument {
                id: format!("{}/{n}", example.id),
                text: text.clone(),
                metadata: Default::default(),
                format: DocumentFormat::Text,
            };
            ingestor
                .ingest(document, &IngestOptions::default())
                .await
                .unwrap();
        }
    }
}

fn read(path: &Path) -> String {
    fs_err::read_to_string(path).unwrap()
}

/// The chosen row beats reuse and loses nothing, and those that compute less do not, or were refuted.
fn assert_cheapest_that_keeps_quality(evidence: &Value, row: &Value) {
    let rows = evidence["rows"].as_array().unwrap();
    let reuse = rows.iter().find(|row| row["spec"] == "reuse").unwrap();
    assert!(row["kl"].as_f64() < reuse["kl"].as_f64(), "{evidence}");
    let share = |field: &str| row[field].as_f64().unwrap();
    assert!(
        share("full_exact_match") - share("exact_match") <= MAX_LOSS,
        "{row}"
    );
    let cheaper =
        |other: &&Value| other["computed_share"].as_f64() < row["computed_share"].as_f64();
    let faithful = |row: &Value| {
        let end = |field: &str, end: usize| row[field][end].as_f64().unwrap();
        end("kl_ci", 1) <= MAX_KL && end("top1_ci", 0) >= MIN_TOP1
    };
    for other in rows.iter().filter(cheaper) {
        let upper = other["loss_ci"][1].as_f64().unwrap();
        let is_kept = upper <= MAX_LOSS && faithful(other);
        let was_refuted = evidence["refuted"].as_array().unwrap().iter();
        let was_refuted = was_refuted
            .clone()
            .any(|tried| tried["chosen"]["spec"] == other["spec"]);
        assert!(
            !is_kept || was_refuted,
            "{other} computes less and loses nothing"
        );
    }
}

#[test]
fn the_choice_keeps_full_prefills_answers_and_is_what_serving_takes() {
    let site = Site::new();
    let before = site.config().fusion.to_mode();
    let dry = Outcome::of(
        site.tune()
            .args(["--policies", "first-k", "--limit", "12", "--dry-run"])
            .arg("--questions")
            .arg(site.questions()),
    );
    assert!(dry.stdout.contains("not written"), "{dry:#?}");
    assert!(!site.data().join("tuned.toml").exists());

    let evidence = Outcome::of(
        site.tune()
            .args(POLICIES)
            .args(limits())
            .arg("--json")
            .arg("--questions")
            .arg(site.questions()),
    )
    .json();
    let chosen = evidence["chosen"].as_str().unwrap();
    // Those whose answer stands in the first chunk, which is exact, are left out.
    let count = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let asked = N_QUESTIONS - count(&evidence["source"]["first"]);
    assert_eq!(evidence["questions_with_answers"], asked);
    let n_confirm = asked / 3;
    let n_choose = asked - n_confirm;
    let rows = evidence["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["spec"] == chosen);
    let row = row.unwrap_or_else(|| panic!("{chosen} is not among the policies: {evidence:#}"));
    // A third is kept back, and confirms the choice.
    assert_eq!(
        (&evidence["chosen_on"], &evidence["confirmed_on"]),
        (&json!(n_choose), &json!(n_confirm))
    );
    assert_eq!(
        (&row["n"], &evidence["confirmed"]["n"]),
        (&json!(n_choose), &json!(n_confirm))
    );
    assert_eq!(evidence["confirmed"]["spec"], chosen);
    assert!(
        evidence["confirmed"]["kl"].as_f64().unwrap() <= MAX_KL,
        "{evidence}"
    );
    assert_cheapest_that_keeps_quality(&evidence, row);

    let mode: Mode = chosen.parse().unwrap();
    assert_ne!(mode, before);
    assert_eq!(site.config().fusion.to_mode(), mode);
    let tuned = read(&site.data().join("tuned.toml"));
    let counts = [
        format!("chosen_on = {n_choose}"),
        format!("confirmed_on = {n_confirm}"),
    ];
    let words = [
        "[evidence]",
        "[evidence.confirmed]",
        "fewer than 30 questions",
    ];
    for word in words
        .iter()
        .copied()
        .chain(counts.iter().map(String::as_str))
    {
        assert!(tuned.contains(word), "no {word} in {tuned}");
    }
    let figures: Value = serde_json::from_str(&read(&site.data().join("tuned.json"))).unwrap();
    assert_eq!(figures, evidence);
}

#[test]
fn without_questions_the_corpus_is_asked_and_fidelity_decides() {
    let site = Site::new();
    let mut command = site.tune();
    command.args([
        "--json",
        "--limit",
        "6",
        "--policies",
        "hkvd@2,first-k",
        "--max-kl",
        "0.000000001",
    ]);
    let evidence = Outcome::of(&mut command).json();
    assert_eq!(
        (&evidence["questions"], &evidence["questions_with_answers"]),
        (&json!(6), &json!(0))
    );
    assert_eq!(
        evidence["chosen"], "full",
        "nothing is that close: {evidence}"
    );
    assert_eq!(site.config().fusion.to_mode(), Mode::Full);
    let tuned = read(&site.data().join("tuned.toml"));
    assert!(!tuned.contains("confirmed_on"), "nothing was: {tuned}");
    // The chunk whose words are asked never comes first, where its KV is exact.
    let places = json!({"alone": 0, "first": 0, "later": 6, "unknown": 0});
    assert_eq!(evidence["source"], places);
}

#[test]
fn a_corpus_of_one_chunk_has_nothing_to_tune_on() {
    let site = Site::of(&[Example {
        documents: vec!["In Olnland: Rosa lives in Belhaven.".to_owned()],
        ..examples().remove(0)
    }]);
    Outcome::of(&mut site.tune())
        .expect_error(&["too small to tune on its own text", "--questions"]);
    let path = site.questions();
    let questions = ["--questions", path.to_str().unwrap()];
    Outcome::of(site.tune().args(questions))
        .expect_error(&["one chunk", "exact under every policy"]);
    assert!(!site.data().join("tuned.toml").exists());
}

#[test]
fn questions_whose_source_comes_first_choose_nothing() {
    let site = Site::new();
    let first = |example: &Example| {
        let ids = chunk_ids(example);
        json!({"question": example.question, "context_chunks": ids, "gold_chunks": ids[..1]})
            .to_string()
    };
    let lines: Vec<String> = examples().iter().take(4).map(first).collect();
    fs_err::write(site.questions(), lines.join("\n")).unwrap();
    let mut command = site.tune();
    command.arg("--questions").arg(site.questions());
    command.args(["--policies", "first-k"]);
    Outcome::of(&mut command).expect_error(&[
        "4 have their source in the first chunk",
        "exact under every policy",
        "context_chunks",
    ]);
    assert!(!site.data().join("tuned.toml").exists());
}

#[test]
fn bad_flags_and_lines_are_named() {
    let site = Site::new();
    let tune = |arguments: &[&str]| Outcome::of(site.tune().args(arguments));
    tune(&["--policies", "oracle"]).expect_error(&["--policies", "cannot be served"]);
    tune(&["--policies", "hkvd@7"]).expect_error(&["--policies", "too deep"]);
    tune(&["--questions", "nowhere.jsonl"]).expect_error(&["--questions", "nowhere.jsonl"]);
    fs_err::write(
        site.questions(),
        "{\"question\": \"Who?\", \"context_chunks\": [\"nothing#0\"]}",
    )
    .unwrap();
    let path = site.questions();
    tune(&["--questions", path.to_str().unwrap()]).expect_error(&["question 1", "nothing#0"]);
}
