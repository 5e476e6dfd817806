//! Answers are read out of the passages again; nothing of how they were made is used.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use strum::VariantArray as _;

use super::*;

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// A counter that gives other counts than words: tokens of about four bytes.
fn quarters(text: &str) -> usize {
    text.len().div_ceil(4)
}

/// The magic numbers of the passages by key, and the passages they stand in.
fn magic_numbers(documents: &[String]) -> BTreeMap<&str, Vec<(usize, &str)>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (place, document) in documents.iter().enumerate() {
        let needles = document
            .split("One of the special magic numbers for ")
            .skip(1);
        for needle in needles {
            let (key, rest) = needle.split_once(" is: ").unwrap();
            let (number, _) = rest.split_once('.').unwrap();
            found.entry(key).or_default().push((place, number));
        }
    }
    found
}

/// The keys that a question asks for.
fn asked(question: &str) -> Vec<&str> {
    let (_, keys) = question.split_once(" for ").unwrap();
    let (keys, _) = keys.split_once(" mentioned").unwrap();
    keys.split(", ")
        .map(|key| key.trim_start_matches("and "))
        .collect()
}

/// Reads assignments in order. Gives the variables that hold each value, with their passages.
/// Panics where a variable is used before it is assigned, or assigned twice.
fn variables(documents: &[String]) -> BTreeMap<&str, Vec<(usize, &str)>> {
    let mut value_of = BTreeMap::new();
    let mut holders: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (place, document) in documents.iter().enumerate() {
        for sentence in document.split_inclusive(". ") {
            let Some(assignment) = sentence.trim().strip_prefix("VAR ") else {
                continue;
            };
            let (variable, source) = assignment.trim_end_matches('.').split_once(" = ").unwrap();
            let value = source
                .strip_prefix("VAR ")
                .map_or(source, |from| value_of[from]);
            assert_eq!(value_of.insert(variable, value), None, "{variable}");
            holders.entry(value).or_default().push((place, variable));
        }
    }
    holders
}

fn set<'a>(items: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    items.into_iter().collect()
}

#[test]
fn tasks_are_named_and_unknown_names_list_them() {
    for &task in RulerTask::VARIANTS {
        assert_eq!(task.to_string().parse(), Ok(task));
    }
    let error = "niah".parse::<RulerTask>().unwrap_err().to_string();
    assert!(error.contains("`niah`"), "{error}");
    for &task in RulerTask::VARIANTS {
        assert!(error.contains(&task.to_string()), "{error}");
    }
}

#[test]
fn the_same_seed_gives_the_same_questions() {
    for &task in RulerTask::VARIANTS {
        let dataset = generate(task, 1000, 3, 7, &words);
        assert_eq!(dataset, generate(task, 1000, 3, 7, &words));
        assert_ne!(dataset, generate(task, 1000, 3, 8, &words));
        assert_eq!(dataset.name, format!("ruler-{task}-1000"));
        let ids: HashSet<&String> = dataset.examples.iter().map(|e| &e.id).collect();
        assert_eq!(ids.len(), 3);
    }
}

/// What seed 1 means must never change: results are compared by it.
#[test]
fn the_first_question_of_a_seed_is_fixed() {
    let first = &generate(RulerTask::VariableTracking, 300, 1, 1, &words).examples[0];
    assert_eq!(first.answers, ["OTZLL", "TWNHU", "KPLNL", "EQVRW", "BCMDH"]);
    assert_eq!(
        first.documents[0],
        "VAR BNSBZ = 21842. The small printer examined the grey table near the river before \
         sunrise. The field beside the mill was tall, and the tailor praised it at noon. The coat \
         at the edge of the forest was famous, and the sailor collected it on the way home. VAR \
         OTZLL = 37167."
    );
}

#[test]
fn contexts_have_the_length_asked_for_in_equal_passages() {
    for &task in RulerTask::VARIANTS {
        for (target, count) in [
            (300, words as fn(&str) -> usize),
            (2048, words),
            (2048, quarters),
            (20_000, quarters),
        ] {
            for example in generate(task, target, 5, 1, &count).examples {
                let lengths: Vec<usize> = example.documents.iter().map(|d| count(d)).collect();
                let total: usize = lengths.iter().sum();
                let off = total.abs_diff(target) as f64 / target as f64;
                assert!(off < 0.05, "{task} {target}: {total}");
                let mean = total as f64 / lengths.len() as f64;
                let equal = |&n: &usize| (n as f64 - mean).abs() < 20.0 + 0.05 * mean;
                assert!(lengths.iter().all(equal), "{task} {target}: {lengths:?}");
            }
        }
    }
}

#[test]
fn passages_are_distinct_and_grow_in_number_with_the_length() {
    for (target, n_passages) in [(300, 6), (20_000, 39)] {
        let example = generate(RulerTask::MultiKey, target, 1, 1, &words)
            .examples
            .remove(0);
        let distinct: HashSet<&String> = example.documents.iter().collect();
        assert_eq!(
            (distinct.len(), example.documents.len()),
            (n_passages, n_passages)
        );
    }
}

#[test]
fn a_context_too_short_for_the_needles_still_holds_them() {
    for example in generate(RulerTask::VariableTracking, 0, 5, 1, &words).examples {
        assert_eq!(variables(&example.documents).values().flatten().count(), 10);
        assert!(
            example
                .documents
                .iter()
                .all(|document| !document.is_empty())
        );
    }
}

#[test]
fn magic_numbers_stand_once_and_in_different_passages() {
    for (task, n_keys, n_values, n_asked) in [
        (RulerTask::MultiKey, 4, 1, 1),
        (RulerTask::MultiValue, 1, 4, 1),
        (RulerTask::MultiQuery, 4, 1, 4),
    ] {
        for example in generate(task, 1500, 20, 1, &words).examples {
            let found = magic_numbers(&example.documents);
            assert_eq!(found.len(), n_keys, "{}", example.id);
            assert!(found.values().all(|numbers| numbers.len() == n_values));
            let places: HashSet<usize> =
                found.values().flatten().map(|(place, _)| *place).collect();
            assert_eq!(places.len(), 4, "{}", example.id);
            let keys = asked(&example.question);
            assert_eq!(keys.len(), n_asked, "{}", example.question);
            let derived = set(keys
                .iter()
                .flat_map(|key| &found[key])
                .map(|(_, number)| *number));
            assert_eq!(derived, set(example.answers.iter().map(String::as_str)));
            let text = example.documents.join("\n");
            for answer in &example.answers {
                assert_eq!(text.matches(answer.as_str()).count(), 1, "{answer}");
            }
        }
    }
}

#[test]
fn chains_run_through_the_passages_in_reading_order() {
    for example in generate(RulerTask::VariableTracking, 1500, 20, 1, &words).examples {
        let holders = variables(&example.documents);
        let (_, value) = example.question.split_once("the value ").unwrap();
        let (value, _) = value.split_once(' ').unwrap();
        let found = &holders[value];
        let derived: Vec<&str> = found.iter().map(|(_, variable)| *variable).collect();
        assert_eq!(derived, example.answers);
        assert_eq!(holders.len(), 2, "the other chain holds another value");
        for chain in holders.values() {
            assert_eq!(chain.len(), 5);
            assert!(chain.is_sorted_by(|a, b| a.0 < b.0), "{chain:?}");
        }
    }
}

#[test]
fn questions_are_worded_as_in_the_paper() {
    let question = |task: RulerTask| {
        generate(task, 300, 1, 1, &words).examples[0]
            .question
            .clone()
    };
    let one = question(RulerTask::MultiKey);
    let [key] = asked(&one)[..] else {
        panic!("{one}");
    };
    assert_eq!(
        one,
        format!(
            "What is the special magic number for {key} mentioned in the provided text? The \
             special magic number for {key} mentioned in the provided text is"
        )
    );
    let several = question(RulerTask::MultiQuery);
    let keys = asked(&several).join(", ");
    let (others, last) = keys.rsplit_once(", ").unwrap();
    let keys = format!("{others}, and {last}");
    assert_eq!(
        several,
        format!(
            "What are all the special magic numbers for {keys} mentioned in the provided text? The \
             special magic numbers for {keys} mentioned in the provided text are"
        )
    );
}
