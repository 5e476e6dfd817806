//! `verify` finds every flipped bit of a record, wherever it is.

use fs_err::os::unix::fs::FileExt as _;

use crate::harness::*;

#[test]
fn verify_finds_every_flip() {
    let n_blobs = 300;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "d", &(0..n_blobs + 1).collect::<Vec<_>>());
    let path = segment_file(dir.path());
    let bytes = fs_err::read(&path).unwrap();
    let file = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
    let mut random = Random::new(11);
    for seed in 0..n_blobs {
        let offset = random.below(RECORD_BYTES);
        let at = record_offset(&bytes, seed) as u64 + offset;
        let flipped = bytes[at as usize] ^ 1 << random.below(8);
        file.write_all_at(&[flipped], at).unwrap();
    }
    let mut seen = 0;
    let report = store
        .verify(|progress| {
            seen += 1;
            assert_eq!(
                (progress.checked, progress.total),
                (seen, u64::from(n_blobs) + 1)
            );
            assert_eq!(progress.is_good, progress.key == key(n_blobs));
        })
        .unwrap();
    assert_eq!(
        (report.blobs, seen),
        (u64::from(n_blobs) + 1, u64::from(n_blobs) + 1)
    );
    assert_eq!(report.bytes, report.blobs * RECORD_BYTES);
    let mut bad: Vec<_> = report.bad.iter().map(|bad| bad.key.clone()).collect();
    bad.sort();
    let mut expected: Vec<_> = (0..n_blobs).map(|seed| key(seed).to_string()).collect();
    expected.sort();
    assert_eq!(bad, expected);
    (0..n_blobs).for_each(|seed| assert_miss(&store, seed));
    assert_hit(&store, n_blobs);
    let stats = store.stats().unwrap();
    assert_eq!((stats.misses.quarantined, stats.misses.total()), (300, 300));
    let again = store.verify(|_| ()).unwrap();
    assert_eq!(
        (again.blobs, again.bad.len()),
        (1, 300),
        "earlier finds are listed too"
    );
}

#[test]
fn verify_reports_damage_outside_of_records() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", &[1]);
    assert!(store.verify(|_| ()).unwrap().is_clean());
    let path = segment_file(dir.path());
    let bytes = fs_err::read(&path).unwrap();
    let file = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
    // The segment header, then the commit mark after the only record.
    for at in [20, bytes.len() - 100] {
        file.write_all_at(&[!bytes[at]], at as u64).unwrap();
        let report = store.verify(|_| ()).unwrap();
        assert_eq!(
            (report.bad.len(), report.damaged_segments.len()),
            (0, 1),
            "byte {at}"
        );
        file.write_all_at(&[bytes[at]], at as u64).unwrap();
    }
    assert_hit(&store, 1);
}
