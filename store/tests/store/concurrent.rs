//! Reads during writes: every result is the document as it was at one moment, or none.

use std::thread;

use ragweave_store::{Document, Store, VectorRow};

use crate::harness::*;

const ID: &str = "d";
/// The first two differ in everything except their shape; the third is shorter.
const VERSIONS: [&[u32]; 3] = [&[1, 2, 3], &[4, 5, 6], &[7]];
const COMMITS_PER_WRITER: usize = 120;

/// Puts the versions one after the other and removes the document in between.
fn replace_and_remove(store: &Store, versions: &[Document]) {
    for n in 0..COMMITS_PER_WRITER {
        match versions.get(n % (versions.len() + 1)) {
            Some(version) => {
                store.commit_document(version, Vec::new()).unwrap();
            }
            None => {
                store.remove_document(ID).unwrap();
            }
        }
    }
}

fn assert_document(store: &Store, versions: &[Document]) {
    if let Some(document) = store.document(ID).unwrap() {
        assert!(versions.contains(&document), "a mixture: {document:?}");
    }
}

fn assert_chunk(store: &Store, versions: &[Document], position: usize) {
    let Some(chunk) = store.chunk(&format!("{ID}#{position}")).unwrap() else {
        return;
    };
    let is_of = |version: &Document| {
        let Some(record) = version.chunks.get(position) else {
            return false;
        };
        let range = record.start_byte as usize..record.end_byte as usize;
        chunk.record == *record
            && chunk.text == version.text[range]
            && chunk.metadata == version.metadata
    };
    assert!(versions.iter().any(is_of), "a mixture: {chunk:?}");
}

fn assert_vectors(store: &Store, versions: &[Document]) {
    let mut rows: Vec<VectorRow> = Vec::new();
    let walk = store.for_each_vector(|row| {
        rows.push(row);
        Ok(())
    });
    walk.unwrap();
    let is_of = |version: &Document| {
        rows.len() == version.chunks.len()
            && rows.iter().zip(&version.chunks).all(|(row, chunk)| {
                (&row.chunk_id, &row.vector) == (&chunk.id, &chunk.vector)
                    && row.metadata == version.metadata
            })
    };
    assert!(
        rows.is_empty() || versions.iter().any(is_of),
        "a mixture: {rows:?}"
    );
}

#[test]
fn what_is_read_during_commits_belongs_together() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let versions = VERSIONS.map(|seeds| document(ID, seeds));
    thread::scope(|scope| {
        let write = || replace_and_remove(&store, &versions);
        let writers = [scope.spawn(write), scope.spawn(write)];
        while !writers.iter().all(|writer| writer.is_finished()) {
            assert_document(&store, &versions);
            (0..3).for_each(|position| assert_chunk(&store, &versions, position));
            assert_vectors(&store, &versions);
        }
    });
}
