//! Documents, chunks and vectors: what is committed is what is read, and shared blobs are kept as
//! long as one chunk refers to them.

use std::collections::BTreeMap;

use ragweave_store::{MAX_NOTES_BYTES, Store, StoreError};

use crate::harness::*;

#[test]
fn a_document_is_read_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "notes/a.md", &[1, 2, 3]);
    put(&store, "notes/a", &[4]);
    drop(store);
    let store = open(dir.path());
    assert_eq!(
        store.document("notes/a.md").unwrap(),
        Some(document("notes/a.md", &[1, 2, 3]))
    );
    assert_eq!(store.content_hash("notes/a.md").unwrap(), Some([3; 32]));
    assert_eq!(store.document("absent").unwrap(), None);
    assert_eq!(store.content_hash("absent").unwrap(), None);
    let chunk = store.chunk("notes/a.md#1").unwrap().unwrap();
    assert_eq!(chunk.record, document("notes/a.md", &[1, 2, 3]).chunks[1]);
    assert_eq!(chunk.text, "chunk          2. ");
    assert_eq!(chunk.metadata["kind"], "3 chunks");
    for absent in [
        "notes/a.md#3",
        "notes/a.md#01",
        "notes/a.md#+1",
        "notes/a.md",
        "#0",
        "",
    ] {
        assert_eq!(store.chunk(absent).unwrap(), None, "{absent}");
    }
}

#[test]
fn documents_are_listed_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for id in ["b", "a", "ab", "c#1"] {
        store
            .commit_document(&document(id, &[1, 2]), Vec::new())
            .unwrap();
    }
    let list = |after, limit| {
        let page = store.list_documents(after, limit).unwrap();
        page.into_iter()
            .map(|document| document.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(list(None, 10), ["a", "ab", "b", "c#1"]);
    assert_eq!(list(Some("a"), 2), ["ab", "b"]);
    assert_eq!(list(Some("aa"), 1), ["ab"]);
    assert_eq!(list(Some("c#1"), 5), [""; 0]);
    assert_eq!(list(None, 0), [""; 0]);
    let first = &store.list_documents(None, 1).unwrap()[0];
    assert_eq!(
        (first.n_chunks, first.n_tokens, first.text_bytes),
        (2, 10, 36)
    );
}

#[test]
fn vectors_are_replaced_and_all_else_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", &[1, 2]);
    put(&store, "b", &[3]);
    let before = store.stats().unwrap().commit_seq;
    let new = [
        ("a#1", &b"new"[..]),
        ("b#0", b""),
        ("b#1", b"x"),
        ("gone#0", b"x"),
    ]
    .map(|(id, vector)| (id.to_owned(), vector.to_vec()));
    store.replace_vectors(&new).unwrap();
    store.replace_vectors(&[]).unwrap();
    drop(store);
    let store = open(dir.path());
    let expected = [
        ("a#0", pattern(1, 0, 2, 16)),
        ("a#1", b"new".to_vec()),
        ("b#0", Vec::new()),
    ]
    .map(|(id, vector)| (id.to_owned(), vector));
    assert_eq!(vectors(&store), BTreeMap::from(expected));
    let mut document = document("a", &[1, 2]);
    document.chunks[1].vector = b"new".to_vec();
    assert_eq!(store.document("a").unwrap(), Some(document));
    for seed in [1, 2, 3] {
        assert_hit(&store, seed);
    }
    assert_eq!(store.stats().unwrap().commit_seq, before);
}

#[test]
fn replacing_a_document_leaves_nothing_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "d", &[1, 2, 3]);
    put(&store, "d", &[2]);
    assert_eq!(store.document("d").unwrap(), Some(document("d", &[2])));
    assert_eq!(store.chunk("d#1").unwrap(), None);
    assert_miss(&store, 1);
    assert_hit(&store, 2);
    assert_eq!(
        vectors(&store),
        BTreeMap::from([("d#0".to_owned(), pattern(2, 0, 2, 16))])
    );
    let stats = store.stats().unwrap();
    assert_eq!((stats.documents, stats.chunks, stats.blobs), (1, 1, 1));
    assert_eq!(stats.live_bytes, RECORD_BYTES);
}

fn vectors(store: &Store) -> BTreeMap<String, Vec<u8>> {
    let mut vectors = BTreeMap::new();
    let walk = store.for_each_vector(|row| {
        assert!(row.chunk_id.starts_with(&format!("{}#", row.document_id)));
        assert!(row.metadata.contains_key("kind"));
        assert_eq!(vectors.insert(row.chunk_id, row.vector), None);
        Ok(())
    });
    walk.unwrap();
    vectors
}

#[test]
fn vectors_are_walked_until_the_caller_stops() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", &[1, 2]);
    put(&store, "b", &[3]);
    let ids: Vec<_> = vectors(&store).into_keys().collect();
    assert_eq!(ids, ["a#0", "a#1", "b#0"]);
    let mut seen = 0;
    let stopped = store.for_each_vector(|_| {
        seen += 1;
        Err(StoreError::ReadOnly {
            reason: "enough".to_owned(),
        })
    });
    assert!(matches!(stopped, Err(StoreError::ReadOnly { .. })));
    assert_eq!(seen, 1);
}

#[test]
fn a_shared_blob_is_kept_as_long_as_a_chunk_refers_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", &[1, 1, 2]);
    store
        .commit_document(&document("b", &[1]), Vec::new())
        .unwrap();
    assert!(store.remove_document("a").unwrap());
    assert_hit(&store, 1);
    assert_miss(&store, 2);
    assert!(store.remove_document("b").unwrap());
    assert!(!store.remove_document("b").unwrap());
    assert_miss(&store, 1);
    let stats = store.stats().unwrap();
    assert_eq!(
        (stats.documents, stats.chunks, stats.blobs, stats.live_bytes),
        (0, 0, 0, 0)
    );
}

#[test]
fn a_blob_whose_chunk_is_gone_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blob = append(&store, 1).unwrap();
    store.commit_blobs(vec![blob]).unwrap();
    assert_miss(&store, 1);
    assert_eq!(store.stats().unwrap().live_bytes, 0);
}

#[test]
fn a_contradictory_document_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let change = |edit: fn(&mut ragweave_store::Document)| {
        let mut document = document("d", &[1, 2]);
        edit(&mut document);
        document
    };
    for bad in [
        change(|document| document.id = String::new()),
        change(|document| document.id = "x".repeat(1025)),
        change(|document| document.chunks[1].id = "d#2".to_owned()),
        change(|document| document.chunks[1].end_byte = 37),
        change(|document| document.chunks[0].start_byte = 19),
        change(|document| document.chunks[0].end_byte = u64::MAX),
        // The first chunk would end inside a character.
        change(|document| document.text = format!("x{}", "ä".repeat(20))),
        change(|document| document.chunks[1].notes = vec![0; MAX_NOTES_BYTES + 1]),
    ] {
        let refused = store.commit_document(&bad, Vec::new());
        assert!(
            matches!(refused, Err(StoreError::InvalidDocument { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(store.stats().unwrap().commit_seq, 0);
}

#[test]
fn conditioning_and_notes_may_be_as_long_as_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut long = document("d", &[1, 2]);
    long.chunks[0].notes = pattern(1, 0, 3, MAX_NOTES_BYTES);
    long.chunks[1].conditioning_ids = (0..50_000).collect();
    store.commit_document(&long, Vec::new()).unwrap();
    assert_eq!(store.document("d").unwrap(), Some(long));
}

#[test]
fn a_dead_segment_is_unlinked_and_its_readers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", &[1]);
    drop(store);
    let store = open(dir.path());
    put(&store, "b", &[2]);
    assert_eq!(segment_files(dir.path()).len(), 2);
    let reader = open_blob(&store, 1).unwrap();
    store.remove_document("a").unwrap();
    assert_eq!(segment_files(dir.path()).len(), 1);
    assert!(read_all(&reader).unwrap() == layers(1, &GEOMETRY));
    assert_hit(&store, 2);
}

#[test]
fn a_segment_with_an_uncommitted_blob_is_not_reclaimed() {
    let dir = tempfile::tempdir().unwrap();
    let max_segment_bytes = 4096 + 3 * RECORD_BYTES;
    let options = ragweave_store::StoreOptions {
        max_segment_bytes,
        ..options()
    };
    let store = Store::open(dir.path(), options).unwrap();
    put(&store, "a", &[1]);
    let pending = append(&store, 2).unwrap();
    let next = append(&store, 3).unwrap(); // starts a segment, which seals the one of 1 and 2
    store
        .commit_document(&document("c", &[2]), Vec::new())
        .unwrap();
    store.remove_document("a").unwrap(); // the last live blob there
    store.commit_blobs(vec![pending]).unwrap();
    assert_eq!(segment_files(dir.path()).len(), 2);
    assert_hit(&store, 2);
    drop(next);
}

#[test]
fn segments_of_a_document_given_up_are_unlinked_by_the_next_commit() {
    let dir = tempfile::tempdir().unwrap();
    let options = ragweave_store::StoreOptions {
        max_segment_bytes: 4096 + RECORD_BYTES,
        ..options()
    };
    let store = Store::open(dir.path(), options).unwrap();
    let mut pending: Vec<_> = (1..4).map(|seed| append(&store, seed).unwrap()).collect();
    put(&store, "a", &[4]);
    assert_eq!(segment_files(dir.path()).len(), 4, "all are still pending");
    pending.truncate(1);
    // This commit makes no blob dead; any commit is enough.
    assert!(!store.remove_document("absent").unwrap());
    assert_eq!(segment_files(dir.path()).len(), 2, "1 is pending, 4 live");
    store
        .commit_document(&document("b", &[1]), pending)
        .unwrap();
    assert_eq!(store.stats().unwrap().segments, 2);
    assert_hit(&store, 1);
    assert_hit(&store, 4);
    store.remove_document("b").unwrap();
    assert_eq!(store.stats().unwrap().segments, 1);
    drop(store);
    let store = open(dir.path());
    assert_hit(&store, 4);
    assert_eq!(store.stats().unwrap().lost_commits, 0);
}
