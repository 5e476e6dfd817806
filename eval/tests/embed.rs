//! `ragweave-eval embed`: its output, and what it says of an embedder that cannot be opened.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use serde_json::Value;
use support::{Outcome, checkout, ragweave_eval};

fn embed(args: &[&str]) -> Outcome {
    let dir = checkout("retriever/tests/fixtures/embedders/bge-cls");
    Outcome::of(
        ragweave_eval()
            .arg("embed")
            .arg("--embedder")
            .arg(dir)
            .args(args),
    )
}

fn json(outcome: &Outcome) -> Value {
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    serde_json::from_str(&outcome.stdout).unwrap()
}

fn vector(value: &Value) -> Vec<f64> {
    let numbers = value.as_array().unwrap().iter();
    numbers.map(|number| number.as_f64().unwrap()).collect()
}

/// The vector that sentence-transformers makes of the first text of the fixture, in this role.
fn expected(role: &str) -> (String, Vec<f64>) {
    let path = checkout("retriever/tests/fixtures/embedders/bge-cls/expected.json");
    let cases: Value = serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap();
    let mut cases = cases.as_array().unwrap().iter();
    let case = cases.find(|case| case["role"] == role).unwrap();
    (
        case["text"].as_str().unwrap().to_owned(),
        vector(&case["vector"]),
    )
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let worst = worst.fold(0.0, f64::max);
    assert!(worst < 1e-5, "{worst}");
}

#[test]
fn one_text_gives_one_vector_and_several_a_list() {
    let (text, document) = expected("document");
    let one = json(&embed(&["--text", &text, "--json"]));
    assert_close(&vector(&one["embedding"]), &document);
    assert_eq!(one.as_object().unwrap().len(), 1, "nothing else");
    let (_, query) = expected("query");
    let args = [
        "--text", &text, "--text", "the fox", "--query", "--times", "--json",
    ];
    let two = json(&embed(&args));
    assert_eq!(two["embeddings"].as_array().unwrap().len(), 2);
    assert_close(&vector(&two["embeddings"][0]), &query);
    assert_eq!(two["times"]["embed_ms"].as_array().unwrap().len(), 2);
}

#[test]
fn the_default_is_lexical_and_sparse() {
    let mut command = ragweave_eval();
    let lexical = json(&Outcome::of(
        command.args(["embed", "--text", "fox", "--json"]),
    ));
    assert_eq!(lexical["embedding"].as_object().unwrap().len(), 1);
}

#[test]
fn what_cannot_be_embedded_is_said() {
    let blank = embed(&["--text", "fox", "--text", " "]);
    assert_eq!(blank.code, Some(1));
    assert!(blank.stderr.contains("text 1 is blank"), "{}", blank.stderr);
    let mut command = ragweave_eval();
    command.args(["embed", "--embedder", "no-such-dir", "--text", "fox"]);
    let missing = Outcome::of(&mut command);
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.contains("no-such-dir"), "{}", missing.stderr);
}
