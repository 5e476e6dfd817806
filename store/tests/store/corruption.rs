//! Damage to every region of a record: each is a counted miss or a `Corrupt` error, never a panic
//! and never wrong bytes. Each damage has its own blob, so that one store is enough.

use fs_err::os::unix::fs::FileExt as _;
use ragweave_store::{Store, StoreError};

use crate::harness::*;

const PAGE: usize = 4096;
/// Head, then K (1 page) and V (2 pages) of three layers, then the footer.
const FOOTER: usize = RECORD_BYTES as usize - PAGE;

/// A store of `n` blobs in one segment file, which is returned open for writing.
fn filled(n: u32) -> (tempfile::TempDir, Store, fs_err::File, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "d", &(0..n).collect::<Vec<_>>());
    let path = segment_file(dir.path());
    let bytes = fs_err::read(&path).unwrap();
    let file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
    (dir, store, file, bytes)
}

fn block_offset(layer: usize, is_v: bool) -> usize {
    PAGE + layer * 3 * PAGE + usize::from(is_v) * PAGE
}

/// Offsets in a record where a changed byte must be noticed by reading the blob: all of the head,
/// both ends and the middle of every block, and all of the footer that is used plus its zeros.
fn covered_offsets() -> Vec<usize> {
    let mut offsets: Vec<usize> = (0..160).chain([2000, PAGE - 1]).collect();
    for layer in 0..3 {
        for (is_v, len) in [(false, 100), (true, 5000)] {
            let start = block_offset(layer, is_v);
            offsets.extend([start, start + 1, start + len / 2, start + len - 1]);
        }
    }
    offsets.extend(
        (FOOTER..FOOTER + 72)
            .chain([FOOTER + 2000])
            .chain(FOOTER + 4088..FOOTER + PAGE),
    );
    offsets
}

#[test]
fn a_flip_anywhere_in_a_record_is_a_counted_miss() {
    let offsets = covered_offsets();
    let (_dir, store, file, bytes) = filled(offsets.len() as u32);
    for (seed, offset) in (0..).zip(&offsets) {
        let at = record_offset(&bytes, seed) + offset;
        let flipped = bytes[at] ^ 1 << (offset % 8);
        file.write_all_at(&[flipped], at as u64).unwrap();
        assert!(
            !is_readable(&store, seed),
            "flip at {offset} is not noticed"
        );
    }
    let misses = store.stats().unwrap().misses;
    assert_eq!(
        (misses.corrupt, misses.total()),
        (offsets.len() as u64, offsets.len() as u64)
    );
}

#[test]
fn damage_to_the_last_layer_shows_only_there() {
    let (_dir, store, file, bytes) = filled(1);
    let at = record_offset(&bytes, 0) + block_offset(2, true) + 4999;
    file.write_all_at(&[!bytes[at]], at as u64).unwrap();
    let reader = open_blob(&store, 0).unwrap();
    let (mut k, mut v) = (vec![0; 100], vec![0; 5000]);
    for (layer, (expected_k, expected_v)) in layers(0, &GEOMETRY)[..2].iter().enumerate() {
        reader.read_layer(layer, &mut k, &mut v).unwrap();
        assert!((&k, &v) == (expected_k, expected_v));
    }
    let error = reader.read_layer(2, &mut k, &mut v).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("V block of layer 2 fails its checksum"),
        "{error}"
    );
    assert!(
        k.iter().chain(&v).all(|byte| *byte == 0),
        "bytes of a bad layer were left in the buffer"
    );
    assert_eq!(store.stats().unwrap().misses.corrupt, 1);
}

#[test]
fn blocks_in_the_wrong_place_are_noticed() {
    let (_dir, store, file, bytes) = filled(8);
    let [a, b, c, d, e, f, g, h] = [0, 1, 2, 3, 4, 5, 6, 7].map(|seed| record_offset(&bytes, seed));
    let copy = |from: usize, to: usize, len: usize| {
        file.write_all_at(&bytes[from..from + len], to as u64)
            .unwrap();
    };
    let swap = |one: usize, other: usize, len: usize| {
        copy(one, other, len);
        copy(other, one, len);
    };
    // The same block of two blobs; two layers of one blob; whole records; a blob's body.
    swap(a + block_offset(0, false), b + block_offset(0, false), PAGE);
    swap(
        c + block_offset(0, true),
        c + block_offset(1, true),
        2 * PAGE,
    );
    swap(d, e, RECORD_BYTES as usize);
    copy(f + PAGE, g + PAGE, RECORD_BYTES as usize - 2 * PAGE);
    // A lost write: zeros where a block should be.
    file.write_all_at(&vec![0; PAGE], (h + block_offset(1, false)) as u64)
        .unwrap();
    for seed in [0, 1, 2, 3, 4, 6, 7] {
        assert!(!is_readable(&store, seed), "blob {seed}");
    }
    assert_hit(&store, 5);
}

#[test]
fn a_cut_at_any_page_costs_exactly_the_blobs_after_it() {
    let (_dir, store, file, bytes) = filled(4);
    let ends: Vec<u64> = (0..4)
        .map(|seed| record_offset(&bytes, seed) as u64 + RECORD_BYTES)
        .collect();
    let pages = bytes.len() as u64 / 4096;
    for page in (0..=pages).rev() {
        for len in [
            page * 4096 + 1,
            page * 4096,
            (page * 4096).saturating_sub(1),
        ] {
            if len > bytes.len() as u64 {
                continue;
            }
            file.set_len(len).unwrap();
            for (seed, end) in (0..).zip(&ends) {
                assert_eq!(
                    is_readable(&store, seed),
                    *end <= len,
                    "blob {seed}, file of {len}"
                );
            }
        }
    }
    assert_eq!(store.stats().unwrap().quarantined, 4);
}

#[test]
fn a_segment_under_another_name_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(dir.path()), "a", &[1]);
    put(&open(dir.path()), "b", &[2]);
    let files = segment_files(dir.path());
    let spare = dir.path().join("spare");
    fs_err::rename(&files[0], &spare).unwrap();
    fs_err::rename(&files[1], &files[0]).unwrap();
    fs_err::rename(&spare, &files[1]).unwrap();
    fs_err::write(dir.path().join("segments/notes.txt"), "not ours").unwrap();
    let store = open(dir.path());
    assert_miss(&store, 1);
    assert_miss(&store, 2);
    assert_eq!(store.stats().unwrap().misses.corrupt, 2);
    assert!(dir.path().join("segments/notes.txt").exists());
}

#[test]
fn damaged_rocksdb_files_never_give_wrong_bytes() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(dir.path()), "a", &[1, 2]);
    let copies = tempfile::tempdir().unwrap();
    let mut random = Random::new(3);
    for round in 0..40 {
        let copy = copies.path().join(round.to_string());
        copy_dir(dir.path(), &copy);
        let entries = fs_err::read_dir(copy.join("meta")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| fs_err::metadata(path).unwrap().len() > 0);
        files.sort();
        let path = &files[random.below(files.len() as u64) as usize];
        let mut bytes = fs_err::read(path).unwrap();
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
        fs_err::write(path, bytes).unwrap();
        match Store::open(&copy, options()) {
            Ok(store) => {
                for seed in [1, 2] {
                    is_readable(&store, seed);
                }
            }
            Err(error) => assert!(
                matches!(
                    error,
                    StoreError::Metadata { .. } | StoreError::Corrupt { .. }
                ),
                "{error}"
            ),
        }
    }
}
