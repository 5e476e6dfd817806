//! The format does not change by accident: a segment of version 1 is kept in the repository, and
//! the same blobs must still be written, and so read, as these bytes.

use std::path::Path;

use crate::harness::*;

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
