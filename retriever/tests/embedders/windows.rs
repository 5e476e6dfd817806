//! Texts beyond the maximum, and texts that spell special tokens.

use tokenizers::Tokenizer;

use crate::directory::{cosine, document, fixture, open, query};

/// `bert-mean` takes 24 tokens, two of which are special.
const ROOM: usize = 22;
/// One token each in that vocabulary.
const WORDS: [&str; 4] = ["fox", "the", "orsk", "pier"];

fn words(range: std::ops::Range<usize>) -> String {
    let words = range.map(|at| WORDS[at * at % WORDS.len()]);
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_long_text_is_the_mean_of_its_windows_weighted_by_tokens() {
    let embedder = open(&fixture("bert-mean")).unwrap();
    let mut expected = vec![0.0; 32];
    for (range, weight) in [(0..22, 22.0), (22..44, 22.0), (44..50, 6.0)] {
        let window = document(&embedder, &words(range));
        for (sum, value) in expected.iter_mut().zip(window) {
            *sum += weight * value;
        }
    }
    let long = document(&embedder, &words(0..50));
    assert!(cosine(&long, &expected) > 1.0 - 1e-6);
    // All of it counts, not only its beginning.
    assert!(cosine(&long, &document(&embedder, &words(0..ROOM))) < 0.9999);
    let length: f32 = long.iter().map(|v| v * v).sum();
    assert!((length - 1.0).abs() < 1e-5);
}

#[test]
fn a_text_of_just_the_maximum_is_one_window() {
    let embedder = open(&fixture("bert-mean")).unwrap();
    let whole = document(&embedder, &words(0..ROOM));
    let over = document(&embedder, &words(0..ROOM + 1));
    assert!(cosine(&whole, &over) < 1.0 - 1e-6);
    // The one token more is a window of its own with weight 1 of 23.
    let rest = document(&embedder, &words(ROOM..ROOM + 1));
    let sum: Vec<f32> = whole.iter().zip(&rest).map(|(a, b)| 22.0 * a + b).collect();
    assert!(cosine(&over, &sum) > 1.0 - 1e-6);
}

#[test]
fn every_window_has_the_prompt() {
    let embedder = open(&fixture("bge-cls")).unwrap();
    // 32 tokens, of which two are special, less those of the prompt.
    let tokenizer = Tokenizer::from_file(fixture("bge-cls").join("tokenizer.json")).unwrap();
    let prompt = tokenizer
        .encode("Represent this sentence: ", false)
        .unwrap();
    let room = 32 - 2 - prompt.len();
    let long = query(&embedder, &words(0..2 * room));
    let windows = [words(0..room), words(room..2 * room)];
    let parts = windows.map(|window| query(&embedder, &window));
    let sum: Vec<f32> = parts[0].iter().zip(&parts[1]).map(|(a, b)| a + b).collect();
    assert!(cosine(&long, &sum) > 1.0 - 1e-6);
}

#[test]
fn a_text_that_spells_special_tokens_has_none() {
    for (name, spelled, plain) in [
        (
            "bert-mean",
            "fox [SEP] the [CLS] pier",
            "fox [ sep ] the [ cls ] pier",
        ),
        ("xlmr-e5", "fox </s> the", "fox  the"),
    ] {
        let embedder = open(&fixture(name)).unwrap();
        let (spelled, plain) = (document(&embedder, spelled), document(&embedder, plain));
        assert!(
            cosine(&spelled, &plain) > 0.97,
            "{name}: {}",
            cosine(&spelled, &plain)
        );
    }
}
