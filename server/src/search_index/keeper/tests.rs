//! A keeper over small indexes: it builds, writes, reads again, and goes on without its dump.

use std::collections::BTreeMap;

use ragweave_retriever::{Embedding, Filter, IndexKind, IndexOptions};

use super::*;

fn index(n: u32) -> SearchIndex {
    let mut index = SearchIndex::new(IndexOptions {
        kind: IndexKind::Hnsw,
        ..IndexOptions::default()
    });
    for i in 0..n {
        let vector = Embedding::Dense(vector(i));
        let (chunk, document) = (format!("d{i}#0"), format!("d{i}"));
        let metadata = BTreeMap::new();
        index
            .insert(&chunk, &document, [0; 32], &metadata, vector)
            .unwrap();
    }
    index
}

fn vector(i: u32) -> Vec<f32> {
    let angle = i as f32 / 100.0;
    vec![angle.cos(), angle.sin(), 0.5]
}

fn place(dir: &tempfile::TempDir, embedder_id: &str) -> DumpPlace {
    DumpPlace {
        dir: dir.path().join("index"),
        embedder_id: embedder_id.to_owned(),
    }
}

/// Runs a keeper until the graph covers `rows` rows.
fn keep(index: SearchIndex, place: Option<DumpPlace>, rows: usize) {
    let index = Arc::new(RwLock::new(index));
    let keeper = GraphKeeper::start(Arc::clone(&index), place).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = || index.read().unwrap().graph_status();
    while status() != (GraphStatus::Ready { rows }) {
        assert!(Instant::now() < deadline, "{:?}", status());
        thread::yield_now();
    }
    keeper.finish();
}

#[test]
fn a_graph_is_built_written_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    keep(index(200), Some(place(&dir, "e")), 192);
    let mut again = index(200);
    restore(&mut again, &place(&dir, "e"));
    assert_eq!(again.graph_status(), GraphStatus::Ready { rows: 192 });
    let query = Embedding::Dense(vector(7));
    let hits = again.search(&query, 1, &Filter::default()).unwrap();
    assert_eq!(hits[0].scored.chunk_id, "d7#0");
}

#[test]
fn a_graph_that_has_grown_is_written_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    keep(index(200), Some(place(&dir, "e")), 192);
    let mut grown = index(300);
    restore(&mut grown, &place(&dir, "e"));
    assert_eq!(grown.graph_status(), GraphStatus::Ready { rows: 192 });
    keep(grown, Some(place(&dir, "e")), 256);
    let mut again = index(300);
    restore(&mut again, &place(&dir, "e"));
    assert_eq!(again.graph_status(), GraphStatus::Ready { rows: 256 });
}

#[test]
fn a_dump_of_another_embedder_is_not_used_and_the_server_works_on() {
    let dir = tempfile::tempdir().unwrap();
    keep(index(200), Some(place(&dir, "e")), 192);
    let mut other = index(200);
    restore(&mut other, &place(&dir, "f"));
    assert_eq!(other.graph_status(), GraphStatus::Pending);
    keep(other, Some(place(&dir, "f")), 192);
    let mut again = index(200);
    restore(&mut again, &place(&dir, "f"));
    assert_eq!(again.graph_status(), GraphStatus::Ready { rows: 192 });
}

#[test]
fn without_a_place_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    keep(index(200), None, 192);
    assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 0);
}

/// A file where the folder should be.
#[test]
fn a_dump_that_cannot_be_written_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("index"), "").unwrap();
    keep(index(200), Some(place(&dir, "e")), 192);
}
