//! Every write, sync and create fails once, in turn, with each kind of error.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ragweave_store::{Disk, Store, StoreError, StoreOptions};

use crate::disks::{EIO, ENOSPC, FaultyDisk};
use crate::harness::*;

/// Documents committed in turn; the third replaces the first.
const STEPS: [(&str, &[u32]); 4] = [
    ("a", &[1, 2]),
    ("b", &[3]),
    ("a", &[2, 4, 5]),
    ("c", &[6, 7]),
];

fn small_segments() -> StoreOptions {
    StoreOptions {
        max_segment_bytes: 3 * RECORD_BYTES,
        ..options()
    }
}

/// What holds after the first `n_steps` steps: every acknowledged document with its blobs.
fn assert_state(store: &Store, n_steps: usize) {
    for id in ["a", "b", "c"] {
        let seeds = STEPS[..n_steps]
            .iter()
            .rev()
            .find(|step| step.0 == id)
            .map(|step| step.1);
        assert_eq!(
            store.document(id).unwrap(),
            seeds.map(|seeds| document(id, seeds)),
            "{id}"
        );
        seeds
            .into_iter()
            .flatten()
            .for_each(|seed| assert_hit(store, *seed));
    }
}

/// Runs the steps; `on_error` gets the failed step and returns whether to repeat it.
fn run_steps(store: &Store, mut on_error: impl FnMut(usize, StoreError) -> bool) {
    for (done, (id, seeds)) in STEPS.iter().enumerate() {
        while let Err(error) = try_put(store, id, seeds) {
            assert_state(store, done);
            if !on_error(done, error) {
                return;
            }
        }
        assert_state(store, done + 1);
    }
}

#[test]
fn out_of_space_at_any_write_costs_one_commit_and_no_restart() {
    for nth in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(FaultyDisk::failing(nth, ENOSPC));
        // Creating a store is not tested here: it fails as a whole.
        let Ok(store) = Store::open_on(
            dir.path(),
            small_segments(),
            Arc::clone(&disk) as Arc<dyn Disk>,
        ) else {
            continue;
        };
        let mut failures = 0;
        run_steps(&store, |_, error| {
            assert!(
                matches!(error, StoreError::DiskFull { .. }),
                "write {nth}: {error}"
            );
            failures += 1;
            assert!(failures < 3, "write {nth}: writes do not resume");
            true
        });
        assert_state(&store, STEPS.len());
        assert_eq!(store.stats().unwrap().read_only, None);
        drop(store);
        let store = Store::open(dir.path(), small_segments()).unwrap();
        assert_state(&store, STEPS.len());
        assert!(store.verify(|_| ()).unwrap().is_clean(), "write {nth}");
        if !disk.has_failed() {
            assert!(nth > 40, "only {nth} operations were tried");
            return;
        }
    }
}

#[test]
fn an_io_error_at_any_write_makes_the_store_read_only_until_reopened() {
    for nth in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(FaultyDisk::failing(nth, EIO));
        let Ok(store) = Store::open_on(
            dir.path(),
            small_segments(),
            Arc::clone(&disk) as Arc<dyn Disk>,
        ) else {
            continue;
        };
        let mut steps = STEPS.len();
        run_steps(&store, |done, error| {
            assert!(
                matches!(error, StoreError::Io { .. }),
                "write {nth}: {error}"
            );
            steps = done;
            false
        });
        if disk.has_failed() {
            let refused = try_put(&store, "z", &[99]);
            assert!(
                matches!(refused, Err(StoreError::ReadOnly { .. })),
                "{refused:?}"
            );
            assert!(matches!(
                store.remove_document("a"),
                Err(StoreError::ReadOnly { .. })
            ));
            assert!(store.stats().unwrap().read_only.is_some());
        }
        assert_state(&store, steps);
        drop(store);
        let store = Store::open(dir.path(), small_segments()).unwrap();
        assert_state(&store, steps);
        put(&store, "z", &[99]);
        assert!(store.verify(|_| ()).unwrap().is_clean(), "write {nth}");
        if !disk.has_failed() {
            assert!(nth > 40, "only {nth} operations were tried");
            return;
        }
    }
}

#[test]
fn what_a_failed_document_wrote_is_unlinked_by_the_next_commit() {
    // 0: marker; then create, header, directory, head, 6 blocks, footer, mark, sync.
    for nth in 1..=13 {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(FaultyDisk::failing(nth, ENOSPC));
        let store = open_on(dir.path(), &disk);
        let refused = try_put(&store, "a", &[1]);
        assert!(
            matches!(refused, Err(StoreError::DiskFull { .. })),
            "{nth}: {refused:?}"
        );
        assert!(segment_files(dir.path()).len() == usize::from(nth > 1));
        put(&store, "a", &[1]);
        assert_eq!(segment_files(dir.path()).len(), 1, "operation {nth}");
        assert_hit(&store, 1);
    }
}

#[test]
fn a_failed_sync_is_not_retried_for_another_commit() {
    // 0: marker; then create, header, directory; then twice head, 6 blocks, footer; then the mark.
    let nth_sync = 4 + 2 * 8 + 1;
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::failing(nth_sync, ENOSPC));
    let store = open_on(dir.path(), &disk);
    let (first, second) = (append(&store, 1).unwrap(), append(&store, 2).unwrap());
    for (id, seed, blob) in [("a", 1, first), ("b", 2, second)] {
        let refused = store.commit_document(&document(id, &[seed]), vec![blob]);
        assert!(disk.has_failed(), "operation {nth_sync} is not the sync");
        assert!(
            matches!(refused, Err(StoreError::DiskFull { .. })),
            "{id}: {refused:?}"
        );
        assert_eq!(store.document(id).unwrap(), None);
    }
    put(&store, "b", &[2]);
    assert_hit(&store, 2);
}

#[test]
fn below_the_free_space_limit_writes_are_refused_and_reads_and_removals_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::sound());
    let options = StoreOptions {
        min_free_bytes: 1 << 30,
        ..options()
    };
    let store = Store::open_on(dir.path(), options, Arc::clone(&disk) as Arc<dyn Disk>).unwrap();
    put(&store, "a", &[1]);
    put(&store, "b", &[2]);
    disk.free_bytes
        .store((1 << 30) + RECORD_BYTES - 1, Ordering::SeqCst);
    let files = segment_files(dir.path()).len();
    let refused = append(&store, 3).map(drop);
    assert!(
        matches!(refused, Err(StoreError::DiskFull { free_bytes, needed_bytes, .. })
            if free_bytes + 1 == needed_bytes),
        "{refused:?}"
    );
    disk.free_bytes.store(0, Ordering::SeqCst);
    let refused = store.commit_document(&document("c", &[3]), Vec::new());
    assert!(
        matches!(refused, Err(StoreError::DiskFull { .. })),
        "{refused:?}"
    );
    assert_eq!(segment_files(dir.path()).len(), files);
    assert_hit(&store, 1);
    assert!(store.remove_document("b").unwrap());
    // After a refusal there must be some margin, otherwise writes would be refused again at once.
    disk.free_bytes
        .store((1 << 30) + RECORD_BYTES, Ordering::SeqCst);
    assert!(append(&store, 3).is_err());
    disk.free_bytes.store(1 << 31, Ordering::SeqCst);
    put(&store, "c", &[3]);
    assert_hit(&store, 3);
}

#[test]
fn a_read_error_is_a_counted_miss_and_is_not_held_against_the_blob() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::sound());
    let store = open_on(dir.path(), &disk);
    put(&store, "a", &[1]);
    disk.failing_reads.store(1, Ordering::SeqCst);
    assert_miss(&store, 1);
    let reader = open_blob(&store, 1).unwrap();
    disk.failing_reads.store(1, Ordering::SeqCst);
    let (mut k, mut v) = (vec![7; 100], vec![7; 5000]);
    let failed = reader.read_layer(0, &mut k, &mut v);
    assert!(matches!(failed, Err(StoreError::Io { .. })), "{failed:?}");
    assert!(
        k.iter().chain(&v).all(|byte| *byte == 0),
        "a failed read left bytes in the buffer"
    );
    assert_eq!(store.stats().unwrap().misses.io, 2);
    assert_hit(&store, 1);
}
