//! What opening a store finds after crashes and after damage.

use std::path::Path;

use ragweave_store::{Store, StoreError};

use crate::harness::*;

fn extend(path: &Path, bytes: &[u8]) {
    let mut file = fs_err::OpenOptions::new().append(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
}

fn truncate(path: &Path, len: u64) {
    fs_err::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(len)
        .unwrap();
}

#[test]
fn every_open_starts_a_new_segment_when_it_writes() {
    let dir = tempfile::tempdir().unwrap();
    for (round, seed) in (0..4).enumerate() {
        let store = open(dir.path());
        assert_eq!(
            segment_files(dir.path()).len(),
            round,
            "reading starts no segment"
        );
        put(&store, &format!("d{seed}"), &[seed]);
        put(&store, &format!("e{seed}"), &[seed + 100]);
    }
    let store = open(dir.path());
    (0..4).for_each(|seed| assert_hit(&store, seed));
    assert_eq!(store.stats().unwrap().commit_seq, 8);
}

#[test]
fn bytes_after_the_last_commit_are_never_touched_or_read() {
    for garbage in [
        vec![0xff; 10_000],
        vec![0; 4096],
        b"RWRECORD".repeat(2000),
        vec![1],
    ] {
        let dir = tempfile::tempdir().unwrap();
        put(&open(dir.path()), "a", &[1]);
        let file = segment_file(dir.path());
        extend(&file, &garbage);
        let before = fs_err::read(&file).unwrap();
        let store = open(dir.path());
        put(&store, "b", &[2]);
        assert_hit(&store, 1);
        assert_hit(&store, 2);
        assert!(
            fs_err::read(&file).unwrap() == before,
            "a sealed segment was written"
        );
        assert_eq!(store.stats().unwrap().lost_commits, 0);
    }
}

#[test]
fn an_uncommitted_blob_is_forgotten_with_its_segment() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store
        .commit_document(&document("a", &[1]), Vec::new())
        .unwrap();
    drop(append(&store, 1).unwrap());
    drop(store);
    assert_eq!(segment_files(dir.path()).len(), 1);
    let store = open(dir.path());
    assert_eq!(segment_files(dir.path()).len(), 0);
    assert_miss(&store, 1);
}

#[test]
fn a_truncated_file_costs_only_the_blobs_after_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(dir.path()), "a", &[1, 2, 3]);
    truncate(&segment_file(dir.path()), 4096 + 2 * RECORD_BYTES - 1);
    let store = open(dir.path());
    assert_hit(&store, 1);
    assert_miss(&store, 2);
    assert_miss(&store, 3);
    assert_eq!(store.stats().unwrap().misses.corrupt, 2);
    assert_miss(&store, 2);
    let stats = store.stats().unwrap();
    assert_eq!(
        (stats.misses.quarantined, stats.quarantined, stats.blobs),
        (1, 2, 1)
    );
    drop(store);
    let store = open(dir.path());
    assert_miss(&store, 3);
    assert_eq!(
        store.stats().unwrap().misses.quarantined,
        1,
        "quarantine outlives the process"
    );
}

#[test]
fn a_missing_or_empty_segment_costs_its_blobs_and_the_store_opens() {
    for damage in [
        |path: &Path| fs_err::remove_file(path).unwrap(),
        |path: &Path| truncate(path, 0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        put(&open(dir.path()), "a", &[1]);
        let file = segment_file(dir.path());
        put(&open(dir.path()), "b", &[2]);
        damage(&file);
        let store = open(dir.path());
        assert_miss(&store, 1);
        assert_hit(&store, 2);
        assert_eq!(store.stats().unwrap().misses.corrupt, 1);
        assert_eq!(
            store.document("a").unwrap(),
            Some(document("a", &[1])),
            "text is not KV"
        );
    }
}

#[test]
fn a_quarantined_blob_comes_back_by_a_new_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", &[1]);
    let bad = open_blob(&store, 1).unwrap();
    assert!(store.quarantine(&bad, "a test says so").unwrap());
    assert_miss(&store, 1);
    let blob = append(&store, 1).unwrap();
    store.commit_blobs(vec![blob]).unwrap();
    assert_hit(&store, 1);
    let stats = store.stats().unwrap();
    assert_eq!(
        (stats.quarantined, stats.blobs, stats.live_bytes),
        (0, 1, RECORD_BYTES)
    );
}

#[test]
fn a_late_reader_of_a_bad_blob_does_not_quarantine_its_successor() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", &[1]);
    let [early, late] = [(); 2].map(|()| open_blob(&store, 1).unwrap());
    assert!(store.quarantine(&early, "found first").unwrap());
    let blob = append(&store, 1).unwrap();
    store.commit_blobs(vec![blob]).unwrap();
    assert!(!store.quarantine(&late, "found later").unwrap());
    assert_hit(&store, 1);
    assert_eq!(store.stats().unwrap().quarantined, 0);
}

#[test]
fn a_lost_metadata_tail_is_noticed_once_and_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let old_meta = tempfile::tempdir().unwrap();
    put(&open(dir.path()), "a", &[1]);
    copy_dir(&dir.path().join("meta"), old_meta.path());
    let store = open(dir.path());
    // The mark of commit 4 says that 3 was acknowledged; whether 4 was is unknown.
    for seed in 2..5 {
        put(&store, &format!("d{seed}"), &[seed]);
    }
    drop(store);
    fs_err::remove_dir_all(dir.path().join("meta")).unwrap();
    copy_dir(old_meta.path(), &dir.path().join("meta"));
    for _ in 0..2 {
        let store = open(dir.path());
        assert_hit(&store, 1);
        assert_miss(&store, 2);
        let stats = store.stats().unwrap();
        assert_eq!((stats.lost_commits, stats.commit_seq), (2, 4));
    }
    assert_eq!(
        put(&open(dir.path()), "e", &[9]),
        5,
        "a commit number is used twice"
    );
}

#[test]
fn a_mark_without_its_commit_is_not_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let old_meta = tempfile::tempdir().unwrap();
    put(&open(dir.path()), "a", &[1]);
    copy_dir(&dir.path().join("meta"), old_meta.path());
    put(&open(dir.path()), "b", &[2]);
    // As after a crash between fdatasync and the batch.
    fs_err::remove_dir_all(dir.path().join("meta")).unwrap();
    copy_dir(old_meta.path(), &dir.path().join("meta"));
    let store = open(dir.path());
    assert_eq!(store.stats().unwrap().lost_commits, 0);
    assert_eq!(store.document("b").unwrap(), None);
    assert_eq!(put(&store, "b", &[2]), 3);
    assert_hit(&store, 2);
}

#[test]
fn lost_metadata_is_an_error_not_a_new_store() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(dir.path()), "a", &[1]);
    fs_err::remove_dir_all(dir.path().join("meta")).unwrap();
    let refused = Store::open(dir.path(), options()).map(drop);
    assert!(
        matches!(refused, Err(StoreError::Metadata { .. })),
        "{refused:?}"
    );
}

#[test]
fn an_interrupted_creation_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(dir.path()), "a", &[1]);
    fs_err::remove_file(dir.path().join("FORMAT")).unwrap();
    assert_hit(&open(dir.path()), 1);
    assert!(dir.path().join("FORMAT").exists());
}
