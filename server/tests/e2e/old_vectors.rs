//! A data directory whose vectors come from another version of the embedder: they are computed again from the text,
//! once, and the KV is kept.

use std::collections::BTreeMap;
use std::path::Path;

use ragweave_retriever::{Embedder as _, Filter, LexicalEmbedder};
use ragweave_server::components::{Components, OpenMode};
use ragweave_server::config::{CommonArgs, Config};
use ragweave_server::ingest::{Change, IngestOptions, IngestOutcome, Ingestor};
use ragweave_store::Store;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::site::{FOX, document};

const STREET: &str = "Die Immobilie steht in einer stillen Straße am Hafen.";
const DASHES: &str = "-----";

/// A data directory with three documents and their KV, whose vectors are as the first embedder wrote them.
fn old_data() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let components = open(root.path(), OpenMode::Ingest, &[]);
    for (id, text) in [("fox", FOX), ("street", STREET), ("dashes", DASHES)] {
        assert_eq!(ingest(&components, id, text).change, Change::Added);
    }
    drop(components);
    age(root.path(), &["fox", "street", "dashes"]);
    root
}

fn open(root: &Path, mode: OpenMode, settings: &[&str]) -> Components {
    let args = CommonArgs {
        data: Some(root.join("data")),
        model: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-qwen3")),
        settings: settings.iter().map(ToString::to_string).collect(),
        ..CommonArgs::default()
    };
    Components::open(Config::load(&args).unwrap(), mode).unwrap()
}

fn ingest(components: &Components, id: &str, text: &str) -> IngestOutcome {
    let ingestor = Ingestor::new(components);
    let options = IngestOptions::default();
    let ingesting = ingestor.ingest(document(id, text), &options);
    Runtime::new().unwrap().block_on(ingesting).unwrap()
}

/// Gives the chunks of some documents vectors of format 1: a version, a kind, and one term that no question has.
fn age(root: &Path, ids: &[&str]) {
    let store = Store::inspect(&root.join("data")).unwrap();
    for id in ids {
        let mut document = store.document(id).unwrap().unwrap();
        for chunk in &mut document.chunks {
            chunk.vector = [&[1, 1][..], &7u32.to_le_bytes(), &1f32.to_le_bytes()].concat();
        }
        store.commit_document(&document, Vec::new()).unwrap();
    }
}

/// The stored vectors by chunk.
pub(crate) fn vectors(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let store = Store::inspect(&root.join("data")).unwrap();
    let mut vectors = BTreeMap::new();
    let keep = |row: ragweave_store::VectorRow| {
        vectors.insert(row.chunk_id, row.vector);
        Ok(())
    };
    store.for_each_vector(keep).unwrap();
    vectors
}

/// The document found first.
fn found(components: &Components, question: &str) -> Option<String> {
    let question = LexicalEmbedder::new().embed_query(question).unwrap();
    let index = components.index.read().unwrap();
    let hits = index.search(&question, 1, &Filter::default()).unwrap();
    hits.into_iter().next().map(|hit| hit.scored.document_id)
}

fn assert_searches(components: &Components) {
    assert_eq!(found(components, "Brindle").as_deref(), Some("fox"));
    for question in ["STRASSE", "Immo\u{ad}bilie", "straße"] {
        assert_eq!(
            found(components, question).as_deref(),
            Some("street"),
            "{question}"
        );
    }
}

#[test]
fn old_vectors_are_made_again_and_kv_is_kept() {
    let root = old_data();
    let components = open(root.path(), OpenMode::Serve, &[]);
    assert_searches(&components);
    for (id, text) in [("fox", FOX), ("street", STREET), ("dashes", DASHES)] {
        let outcome = ingest(&components, id, text);
        assert_eq!((outcome.change, outcome.kv_bytes), (Change::Unchanged, 0));
        for chunk in components.store.document(id).unwrap().unwrap().chunks {
            let blob = components.store.open_blob(&chunk.key, &chunk.token_ids);
            assert!(blob.unwrap().is_some(), "the KV of {id} is found");
        }
    }
    drop(components);
    let vectors = vectors(root.path());
    assert!(
        vectors
            .values()
            .all(|vector| vector.is_empty() || vector[0] == 2),
        "{vectors:?}"
    );
}

#[test]
fn the_second_open_embeds_nothing() {
    let root = old_data();
    drop(open(root.path(), OpenMode::Ingest, &[]));
    // A vector of another text shows whether it is used unchanged.
    let fox = vectors(root.path())["fox#0"].clone();
    let store = Store::inspect(&root.path().join("data")).unwrap();
    store
        .replace_vectors(&[("dashes#0".to_owned(), fox)])
        .unwrap();
    drop(store);
    let components = open(root.path(), OpenMode::Serve, &[]);
    let question = LexicalEmbedder::new().embed_query("Brindle").unwrap();
    let index = components.index.read().unwrap();
    let hits = index.search(&question, 3, &Filter::default()).unwrap();
    assert_eq!(hits.len(), 2, "{hits:?}");
}

#[test]
fn a_renewal_that_was_cut_short_goes_on() {
    let root = old_data();
    drop(open(root.path(), OpenMode::Serve, &[]));
    let whole = vectors(root.path());
    age(root.path(), &["street"]);
    let components = open(root.path(), OpenMode::Serve, &[]);
    assert_searches(&components);
    drop(components);
    assert_eq!(vectors(root.path()), whole);
}

#[test]
fn where_vectors_cannot_be_stored_the_search_is_right_all_the_same() {
    let root = old_data();
    let old = vectors(root.path());
    assert_searches(&open(root.path(), OpenMode::ReadOnly, &[]));
    let foreign = ["system=Be brief.", "allow_recompute=true"];
    assert_searches(&open(root.path(), OpenMode::Serve, &foreign));
    let full = ["store.min_free_bytes=9000000000000000"];
    assert_searches(&open(root.path(), OpenMode::Serve, &full));
    assert_eq!(vectors(root.path()), old);
}

#[test]
fn chunks_find_their_neighbours_by_vectors_made_again() {
    let root = old_data();
    let full = [
        "store.min_free_bytes=9000000000000000",
        "ingest.neighbours=1",
    ];
    let components = open(root.path(), OpenMode::Serve, &full);
    let waiting = ingest(&components, "fox", FOX).unconditioned.unwrap();
    let ingestor = Ingestor::new(&components);
    let conditioned = Runtime::new()
        .unwrap()
        .block_on(ingestor.condition(&waiting));
    let error = conditioned.unwrap_err().to_string();
    assert!(error.contains("no space"), "not the vectors: {error}");
}
