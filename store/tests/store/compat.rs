//! The format does not change by accident: a segment of version 1 is kept in the repository, and
//! the same blobs must still be written, and so read, as these bytes. A whole store is kept too,
//! written when chunks had neither conditioning ids nor notes (chunk rows of version 1).

use std::path::Path;

use ragweave_store::{Document, Fields, stored_fields};

use crate::harness::*;

/// A copy of the kept store, with the documents `a` of blobs 1 and 2 and `b` of blob 3.
fn store_of_version_1() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1/store");
    copy_dir(&kept, dir.path());
    dir
}

/// `document(id, seeds)` as it was before chunks had the fields of chunk row version 2.
fn old_document(id: &str, seeds: &[u32]) -> Document {
    let mut document = document(id, seeds);
    for chunk in &mut document.chunks {
        chunk.conditioning_ids.clear();
        chunk.notes.clear();
    }
    document
}

#[test]
fn a_store_of_version_1_is_read() {
    let dir = store_of_version_1();
    assert_eq!(stored_fields(dir.path()).unwrap(), Some(Fields::new()));
    let store = open(dir.path());
    assert_eq!(
        store.document("a").unwrap(),
        Some(old_document("a", &[1, 2]))
    );
    let chunk = store.chunk("b#0").unwrap().unwrap();
    assert_eq!(chunk.record, old_document("b", &[3]).chunks[0]);
    for seed in 1..=3 {
        assert_hit(&store, seed);
    }
    assert!(store.verify(|_| ()).unwrap().is_clean());
}

#[test]
fn a_store_of_version_1_takes_documents_of_today() {
    let dir = store_of_version_1();
    let store = open(dir.path());
    put(&store, "b", &[4, 2]);
    store.remove_document("a").unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.document("b").unwrap(), Some(document("b", &[4, 2])));
    assert_miss(&store, 1);
    assert_miss(&store, 3);
    assert_hit(&store, 2);
    assert_hit(&store, 4);
}

#[test]
fn segments_are_written_as_in_version_1() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", &[1]);
    put(&store, "b", &[2]);
    drop(store);
    let written = fs_err::read(segment_file(dir.path())).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1/segment.seg");
    if !fixture.exists() {
        fs_err::create_dir_all(fixture.parent().unwrap()).unwrap();
        fs_err::write(&fixture, &written).unwrap();
        panic!("the fixture was missing and has been written: look at it and commit it");
    }
    let kept = fs_err::read(&fixture).unwrap();
    let first_difference = kept
        .iter()
        .zip(&written)
        .position(|(kept, now)| kept != now);
    assert_eq!((first_difference, kept.len()), (None, written.len()));
}

#[test]
fn a_segment_of_version_1_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", &[1]);
    put(&store, "b", &[2]);
    drop(store);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1/segment.seg");
    fs_err::copy(fixture, segment_file(dir.path())).unwrap();
    let store = open(dir.path());
    assert_hit(&store, 1);
    assert_hit(&store, 2);
    assert!(store.verify(|_| ()).unwrap().is_clean());
}
