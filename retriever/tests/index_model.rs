//! The index against a scorer that keeps a plain list, over random inserts, removals, searches and
//! work on the graph; with sparse vectors, dense ones, and dense ones with a graph.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use ragweave_retriever::{
    Embedding, Filter, GraphStatus, IndexKind, IndexOptions, RetrieverError, VectorIndex,
};

type Terms = Vec<(u32, f32)>;

/// Terms there are; the dimension of dense vectors.
const TERMS: u32 = 12;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Sparse,
    Flat,
    /// A graph at any size.
    Graph,
}

#[derive(Debug, Clone)]
enum Step {
    Insert {
        document: u8,
        colour: u8,
        terms: Terms,
    },
    Remove {
        document: u8,
    },
    Search {
        terms: Terms,
        top_k: usize,
        filter: Filter,
    },
    /// Brings the graph up to date.
    Work,
}

/// One entry of the plain list.
#[derive(Debug)]
struct Entry {
    chunk: String,
    document: String,
    colour: u8,
    terms: Terms,
}

/// Weights are multiples of 1/4, so that equal scores really happen.
fn terms() -> impl Strategy<Value = Terms> {
    prop::collection::btree_map(0..TERMS, (1u8..9).prop_map(|w| f32::from(w) / 4.0), 1..6)
        .prop_map(|terms| terms.into_iter().collect())
}

fn filter() -> impl Strategy<Value = Filter> {
    let colours = prop::option::of(0u8..3);
    let documents = prop::option::of(prop::collection::btree_set(0u8..8, 0..5));
    (colours, documents).prop_map(|(colour, documents)| Filter {
        metadata: colour
            .map(|c| ("colour".to_owned(), c.to_string()))
            .into_iter()
            .collect(),
        document_ids: documents.map(|ids| ids.iter().map(|id| format!("d{id}")).collect()),
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let top_k = prop_oneof![0usize..6, Just(1_000_000_000), Just(usize::MAX)];
    let step = prop_oneof![
        6 => (0u8..8, 0u8..3, terms())
            .prop_map(|(document, colour, terms)| Step::Insert { document, colour, terms }),
        1 => (0u8..8).prop_map(|document| Step::Remove { document }),
        3 => (terms(), top_k, filter())
            .prop_map(|(terms, top_k, filter)| Step::Search { terms, top_k, filter }),
        1 => Just(Step::Work),
    ];
    prop::collection::vec(step, 0..400)
}

fn idf(entries: &[Entry], term: u32) -> f64 {
    let has_term = |entry: &&Entry| entry.terms.iter().any(|t| t.0 == term);
    let (n, df) = (
        entries.len() as f64,
        entries.iter().filter(has_term).count() as f64,
    );
    (1.0 + (n - df + 0.5) / (df + 0.5)).ln()
}

fn embedding(kind: Kind, terms: &Terms) -> Embedding {
    match kind {
        Kind::Sparse => Embedding::Sparse(terms.clone()),
        Kind::Flat | Kind::Graph => Embedding::Dense(dense(terms)),
    }
}

fn dense(terms: &Terms) -> Vec<f32> {
    let mut values = vec![0.0; TERMS as usize];
    for &(term, weight) in terms {
        // Both signs, so that cosines below zero happen.
        values[term as usize] = if term % 2 == 0 { weight } else { -weight };
    }
    values
}

fn naive_score(kind: Kind, entries: &[Entry], query: &Terms, entry: &Entry) -> f64 {
    if kind != Kind::Sparse {
        return cosine(&dense(query), &dense(&entry.terms));
    }
    let common = query.iter().filter_map(|(term, weight)| {
        let (_, own) = entry.terms.iter().find(|t| t.0 == *term)?;
        Some(f64::from(*weight) * f64::from(*own) * idf(entries, *term))
    });
    common.sum()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y));
        products.sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn passes(entry: &Entry, filter: &Filter) -> bool {
    let colour = entry.colour.to_string();
    filter
        .metadata
        .get("colour")
        .is_none_or(|wanted| *wanted == colour)
        && filter
            .document_ids
            .as_ref()
            .is_none_or(|ids| ids.contains(&entry.document))
}

fn compare(
    kind: Kind,
    index: &VectorIndex,
    entries: &[Entry],
    (query, top_k, filter): (&Terms, usize, &Filter),
) {
    let found = index.search(&embedding(kind, query), top_k, filter);
    let found = found.unwrap();
    let mut expected: BTreeMap<&str, f64> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| passes(entry, filter)) {
        expected.insert(&entry.chunk, naive_score(kind, entries, query, entry));
    }
    expected.retain(|_, score| kind != Kind::Sparse || *score > 0.0);
    assert_eq!(found.len(), expected.len().min(top_k));
    for scored in &found {
        let score = expected[&*scored.chunk_id];
        assert!(
            (score - f64::from(scored.score)).abs() < 1e-4,
            "{scored:?} should be {score}"
        );
    }
    let in_order = |a: &_, b: &_| order(a, b);
    assert!(found.is_sorted_by(in_order), "{found:?}");
    if matches!(index.graph_status(), GraphStatus::Ready { .. }) {
        return; // It may overlook one; how rarely is measured elsewhere.
    }
    let best_left_out = expected
        .iter()
        .filter(|(chunk, _)| found.iter().all(|scored| scored.chunk_id != **chunk))
        .map(|(_, score)| *score)
        .fold(f64::NEG_INFINITY, f64::max);
    assert!(
        found
            .last()
            .is_none_or(|worst| f64::from(worst.score) > best_left_out - 1e-4)
    );
}

fn order(a: &ragweave_retriever::Scored, b: &ragweave_retriever::Scored) -> bool {
    a.score > b.score || (a.score == b.score && a.chunk_id < b.chunk_id)
}

/// Runs the steps on both, and returns whether a graph ever served.
fn run(kind: Kind, steps: Vec<Step>) -> bool {
    let mut index = VectorIndex::new(IndexOptions {
        kind: if kind == Kind::Graph {
            IndexKind::Hnsw
        } else {
            IndexKind::Flat
        },
        m: 8,
        ef_construction: 32,
        ef_search: 32,
        ..IndexOptions::default()
    });
    let mut entries: Vec<Entry> = Vec::new();
    let mut served = false;
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Insert {
                document,
                colour,
                terms,
            } => {
                let (document, chunk) = (format!("d{document}"), format!("d{document}#{number}"));
                let metadata = BTreeMap::from([("colour".to_owned(), colour.to_string())]);
                index
                    .insert(&chunk, &document, &metadata, embedding(kind, &terms))
                    .unwrap();
                entries.push(Entry {
                    chunk,
                    document,
                    colour,
                    terms,
                });
            }
            Step::Remove { document } => {
                let document = format!("d{document}");
                let before = entries.len();
                entries.retain(|entry| entry.document != document);
                assert_eq!(index.remove_document(&document), before - entries.len());
            }
            Step::Search {
                terms,
                top_k,
                filter,
            } => {
                compare(kind, &index, &entries, (&terms, top_k, &filter));
            }
            Step::Work => work(&mut index),
        }
        assert_eq!(index.len(), entries.len());
        served |= matches!(index.graph_status(), GraphStatus::Ready { .. });
    }
    served
}

/// Does the work there is on the graph.
fn work(index: &mut VectorIndex) {
    while let Some(task) = index.graph_task() {
        let done = task
            .run(1, &AtomicBool::new(false))
            .expect("nothing stops it");
        assert!(!done.has_failed());
        drop(index.install(done));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_index_finds_what_a_plain_list_finds(steps in steps()) {
        run(Kind::Sparse, steps);
    }

    #[test]
    fn dense_vectors_are_found_as_in_a_plain_list(steps in steps()) {
        run(Kind::Flat, steps);
    }

    #[test]
    fn a_graph_gives_exact_scores_and_never_a_removed_chunk(steps in steps()) {
        run(Kind::Graph, steps);
    }
}

/// So that the test above cannot pass without a graph.
#[test]
fn the_model_test_reaches_the_graph() {
    let insert = |n: u32| Step::Insert {
        document: (n % 8) as u8,
        colour: 0,
        terms: vec![(n % (TERMS - 1), 1.0), (TERMS - 1, n as f32)],
    };
    let steps: Vec<Step> = (0..200).map(insert).chain([Step::Work]).collect();
    assert!(run(Kind::Graph, steps.clone()));
    assert!(!run(Kind::Flat, steps));
}

fn insert(
    index: &mut VectorIndex,
    chunk: &str,
    embedding: Embedding,
) -> Result<(), RetrieverError> {
    let document = chunk.split('#').next().unwrap();
    index.insert(chunk, document, &BTreeMap::new(), embedding)
}

fn found(index: &VectorIndex, query: Embedding) -> Vec<String> {
    let hits = index.search(&query, 10, &Filter::default()).unwrap();
    hits.into_iter().map(|hit| hit.chunk_id).collect()
}

/// Many removals, so that rows are packed again and again; the result must not depend on it.
#[test]
fn an_index_after_many_removals_equals_a_fresh_one() {
    let terms = |i: u32| Embedding::Sparse(vec![(i % 7, 1.0), (100 + i % 5, 0.5)]);
    let (mut churned, mut fresh) = (VectorIndex::default(), VectorIndex::default());
    for i in 0..2_000 {
        insert(&mut churned, &format!("d{i}#0"), terms(i)).unwrap();
    }
    for i in (0..2_000).filter(|i| i % 10 != 3) {
        assert_eq!(churned.remove_document(&format!("d{i}")), 1);
        assert_eq!(churned.remove_document(&format!("d{i}")), 0);
    }
    for i in (0..2_000).filter(|i| i % 10 == 3).rev() {
        insert(&mut fresh, &format!("d{i}#0"), terms(i)).unwrap();
    }
    for i in 0..35 {
        let search =
            |index: &VectorIndex| index.search(&terms(i), 500, &Filter::default()).unwrap();
        assert_eq!(search(&churned), search(&fresh));
    }
}

#[test]
fn a_removed_chunk_can_come_back() {
    let mut index = VectorIndex::default();
    let embedding = || Embedding::Sparse(vec![(1, 1.0)]);
    insert(&mut index, "a#0", embedding()).unwrap();
    let twice = insert(&mut index, "a#0", embedding());
    assert_eq!(
        twice,
        Err(RetrieverError::DuplicateChunk {
            chunk_id: "a#0".into()
        })
    );
    assert_eq!(index.remove_document("a"), 1);
    assert!(index.is_empty() && found(&index, embedding()).is_empty());
    insert(&mut index, "a#0", embedding()).unwrap();
    assert_eq!(found(&index, embedding()), ["a#0"]);
}

#[test]
fn dense_vectors_rank_by_cosine() {
    let mut index = VectorIndex::default();
    insert(&mut index, "far#0", Embedding::Dense(vec![-1.0, 0.1])).unwrap();
    insert(&mut index, "near#0", Embedding::Dense(vec![9.0, 1.0])).unwrap();
    insert(&mut index, "b#0", Embedding::Dense(vec![1.0, 1.0])).unwrap();
    insert(&mut index, "a#0", Embedding::Dense(vec![2.0, 2.0])).unwrap();
    let query = || Embedding::Dense(vec![0.5, 0.0]);
    assert_eq!(found(&index, query()), ["near#0", "a#0", "b#0", "far#0"]);
    index.remove_document("near");
    assert_eq!(found(&index, query()), ["a#0", "b#0", "far#0"]);
    let only_b = Filter {
        document_ids: Some(BTreeSet::from(["b".into()])),
        ..Filter::default()
    };
    assert_eq!(
        index.search(&query(), 10, &only_b).unwrap()[0].chunk_id,
        "b#0"
    );
}

#[test]
fn vectors_that_do_not_fit_are_refused_and_change_nothing() {
    let mut index = VectorIndex::default();
    insert(&mut index, "a#0", Embedding::Dense(vec![1.0, 0.0])).unwrap();
    let bad = [
        (
            Embedding::Dense(vec![1.0]),
            RetrieverError::WrongDimension {
                expected: 2,
                found: 1,
            },
        ),
        (
            Embedding::Sparse(vec![(1, 1.0)]),
            RetrieverError::WrongKind {
                expected: "dense",
                found: "sparse",
            },
        ),
        (
            Embedding::Dense(vec![f32::NAN, 0.0]),
            RetrieverError::BadEmbedding {
                what: "a number is not finite",
            },
        ),
        (
            Embedding::Dense(vec![0.0, 0.0]),
            RetrieverError::BadEmbedding {
                what: "all numbers are zero",
            },
        ),
    ];
    for (embedding, error) in bad {
        assert_eq!(
            insert(&mut index, "b#0", embedding.clone()),
            Err(error.clone())
        );
        assert_eq!(index.search(&embedding, 3, &Filter::default()), Err(error));
    }
    assert_eq!(index.len(), 1);
    assert_eq!(found(&index, Embedding::Dense(vec![1.0, 0.0])), ["a#0"]);
}
