//! The port against the demo model's tokenizer, the committed demo questions, and a reader that
//! knows nothing of how worlds are drawn.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use ragweave_engine::TextCodec;
use serde_json::Value;

use super::world::World;
use super::*;
use solver::Reader;

mod solver;

fn demo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../demo")
        .join(path)
}

fn counts(kinds: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    kinds.into_iter().fold(BTreeMap::new(), |mut counts, kind| {
        *counts.entry(kind).or_default() += 1;
        counts
    })
}

/// The lines of `demo/questions.jsonl`.
fn demo_questions() -> Vec<Value> {
    let text = fs_err::read_to_string(demo("questions.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn world_of(question: &str) -> &str {
    let (world, _) = question
        .strip_prefix("In ")
        .unwrap()
        .split_once(':')
        .unwrap();
    world
}

#[test]
fn a_seed_gives_the_same_questions_and_more_only_add_to_them() {
    let hundred = generate(5, 100);
    assert_eq!(hundred, generate(5, 100));
    assert_eq!(hundred.examples[..40], generate(5, 40).examples);
    assert_eq!(generate(5, 0).examples, []);
    let documents = |seed| -> HashSet<String> {
        let examples = generate(seed, 100).examples;
        examples.into_iter().flat_map(|e| e.documents).collect()
    };
    assert!(documents(5).is_disjoint(&documents(6)));
}

/// FNV-1a of all texts.
fn digest(examples: &[Example]) -> u64 {
    let texts = examples.iter().flat_map(|e| {
        [&e.id, &e.kind, &e.question, &e.answers[0]]
            .into_iter()
            .chain(&e.documents)
    });
    let bytes = texts.flat_map(|text| text.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What seed 1 means must never change: results are compared by it.
#[test]
fn the_questions_of_a_seed_are_fixed() {
    let examples = generate(1, 300).examples;
    assert_eq!(digest(&examples), 13_091_036_450_511_686_930);
    let first = &examples[0];
    assert_eq!(first.id, "haldwick-1-01");
    assert_eq!(first.question, "In Haldwick: Who is Shadow?");
    assert_eq!(first.answers, ["Emil"]);
    assert_eq!(
        first.documents[0],
        "In Haldwick: Emil is known as Harbor. The basket was made by the theatre Lyrara. Tilda \
         is employed by the theatre. Emil is known as Shadow. Tilda lives in the village of Brenby."
    );
}

#[test]
fn types_come_in_the_proportions_of_the_demo_questions() {
    let demo = counts(
        demo_questions()
            .iter()
            .map(|row| row["type"].as_str().unwrap().to_owned()),
    );
    let of = |n| counts(generate(1, n).examples.into_iter().map(|e| e.kind));
    assert_eq!(of(495), demo);
    for (kind, n) in of(100) {
        let expected = demo[&kind] as f64 * 100.0 / 495.0;
        assert!((n as f64 - expected).abs() < 1.0, "{kind}: {n}, {expected}");
    }
}

#[test]
fn no_question_is_asked_twice_over_a_world_and_worlds_are_fresh() {
    let examples = generate(1, 2000).examples;
    let world = |id: &str| id.rsplit_once('-').unwrap().0.to_owned();
    let asked: HashSet<(String, &str)> = examples
        .iter()
        .map(|e| (world(&e.id), e.question.as_str()))
        .collect();
    let ids: HashSet<&str> = examples.iter().map(|e| e.id.as_str()).collect();
    assert_eq!((asked.len(), ids.len()), (2000, 2000));
    let mut owner = BTreeMap::new();
    for example in &examples {
        for document in &example.documents {
            let first = owner.entry(document).or_insert(world(&example.id));
            assert_eq!(*first, world(&example.id), "{document}");
        }
    }
}

#[test]
fn the_answers_follow_from_documents_that_define_before_they_use() {
    for example in generate(3, 1000).examples {
        assert_eq!(example.documents.len(), DOCUMENTS_PER_QUESTION);
        let unique: HashSet<&String> = example.documents.iter().collect();
        assert_eq!(unique.len(), DOCUMENTS_PER_QUESTION, "{}", example.id);
        let reader = Reader::new(world_of(&example.question), &example.documents);
        let solution = reader.solve(&example.question);
        assert_eq!([solution.answer], *example.answers, "{}", example.id);
        assert_eq!(solution.kind, example.kind, "{}", example.id);
        let one = solution.documents.len() == 1;
        assert_eq!(one, example.kind == "local", "{}", example.id);
    }
}

/// The reader understands what the Python generator wrote: it and this port use the same forms.
#[test]
fn the_committed_demo_questions_are_solved_the_same_way() {
    let read = |id: &str| {
        let document = id.strip_suffix("#0").unwrap();
        fs_err::read_to_string(demo("corpus").join(document)).unwrap()
    };
    for row in demo_questions() {
        let ids: Vec<&str> = row["context_chunks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_str().unwrap())
            .collect();
        let documents: Vec<String> = ids.iter().map(|id| read(id)).collect();
        let reader = Reader::new(row["world"].as_str().unwrap(), &documents);
        let solution = reader.solve(row["question"].as_str().unwrap());
        assert_eq!(solution.answer, row["answers"][0], "{}", row["id"]);
        assert_eq!(solution.kind, row["type"], "{}", row["id"]);
        let gold: Vec<&str> = solution.documents.iter().map(|&n| ids[n]).collect();
        assert_eq!(Value::from(gold), row["gold_chunks"], "{}", row["id"]);
    }
}

/// Means over 2,000 worlds of `scripts/demo_model/world.py`, sizes as in `build_corpus.py`. Over
/// 1,000 worlds the standard error is about 0.03.
#[test]
fn a_world_gives_as_many_questions_as_one_of_the_python_generator() {
    let expected = [6.0, 3.617, 2.585, 2.386, 1.394];
    let mut random = Random::new(1);
    let mut picked = [0; N_TYPES];
    let (mut chains, mut sentences, mut documents) = (0, 0, 0);
    for _ in 0..1000 {
        let world = World::draw(&mut random, "Zorland");
        for (ask, picked) in ASKED.iter().zip(&mut picked) {
            let questions = pick_questions(&world, ask, &mut random);
            *picked += questions.len();
            chains += questions.iter().filter(|q| world.gold(q).len() > 2).count();
        }
        documents += world.documents.len();
        sentences += world.questions.len();
    }
    for ((ask, picked), expected) in ASKED.iter().zip(picked).zip(expected) {
        let mean = picked as f64 / 1000.0;
        assert!((mean - expected).abs() < 0.12, "{}: {mean}", ask.name);
    }
    let share = chains as f64 / picked[4] as f64;
    assert!((share - 0.398).abs() < 0.05, "x_same in chains: {share}");
    let length = sentences as f64 / documents as f64;
    assert!(
        (length - 4.5).abs() < 0.03,
        "sentences per document: {length}"
    );
}

/// As in training: what the prompt format makes of a text is one known token per word and mark.
#[test]
fn every_word_is_one_token_of_the_demo_model() {
    let codec = TextCodec::from_dir(&demo("model")).unwrap();
    let units = |text: &str| {
        let marks = text.matches(['.', ',', '?', ':']).count();
        text.split_whitespace().count() + marks
    };
    let check = |text: &str, wrapper: &str, extra: usize| {
        let wrapped = wrapper.replace("{}", text);
        let tokens = codec.encode_plain(&wrapped).unwrap().len();
        assert_eq!(tokens, units(text) + extra, "{wrapped:?}");
    };
    let mut words = BTreeSet::new();
    for example in generate(4, 1000).examples {
        check(&example.question, "\nQ: {}\nA:", 6);
        check(&format!(" {}", example.answers[0]), "{}", 0);
        for document in example.documents {
            check(&document, "\n- {}", 2);
            words.extend(document.split_whitespace().map(str::to_owned));
        }
    }
    assert!(
        words.len() > 400,
        "{} words are too few to tell",
        words.len()
    );
}
