//! A power cut discards everything that was not synced. Segment data must be durable before the
//! metadata names it; without any one of the syncs these tests fail.

use std::sync::Arc;

use ragweave_store::{Disk, Store, StoreOptions};

use crate::disks::PowerLossDisk;
use crate::harness::*;

#[test]
fn no_acknowledged_blob_is_lost_with_the_power() {
    let dir = tempfile::tempdir().unwrap();
    // Small segments: new files, and commits with blobs in two of them.
    let options = StoreOptions {
        max_segment_bytes: 3 * RECORD_BYTES,
        ..options()
    };
    let mut random = Random::new(7);
    let mut acknowledged = Vec::new();
    for round in 0..20u32 {
        let disk = Arc::new(PowerLossDisk::default());
        let shared = Arc::clone(&disk) as Arc<dyn Disk>;
        let store = Store::open_on(dir.path(), options.clone(), shared).unwrap();
        for n in 0..1 + random.below(3) as u32 {
            let seeds: Vec<u32> = (0..1 + random.below(3) as u32)
                .map(|m| round * 100 + n * 10 + m)
                .collect();
            put(&store, &format!("d{round}.{n}"), &seeds);
            acknowledged.extend(seeds);
        }
        let pending = append(&store, 9999).unwrap();
        drop(store);
        disk.lose_power();
        drop(pending);
        let store = Store::open(dir.path(), options.clone()).unwrap();
        acknowledged
            .iter()
            .for_each(|seed| assert_hit(&store, *seed));
        assert_miss(&store, 9999);
        assert!(store.verify(|_| ()).unwrap().is_clean());
    }
}
