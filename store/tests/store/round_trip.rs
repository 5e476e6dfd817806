//! Blobs of every size are read back as they were written.

use proptest::prelude::*;
use ragweave_store::{BlobGeometry, BlobKey, StoreError};

use crate::harness::*;

/// Sizes around the alignment, and anything else.
fn block_bytes() -> impl Strategy<Value = u32> {
    prop_oneof![
        prop::sample::select(vec![0, 1, 4095, 4096, 4097, 8191, 8192, 8193]),
        0u32..20_000
    ]
}

/// Token counts around the one that fills the head's first page, and anything else.
fn n_tokens() -> impl Strategy<Value = u32> {
    prop_oneof![
        prop::sample::select(vec![1, 997, 998, 999, 1000]),
        1u32..3000
    ]
}

prop_compose! {
    fn geometry()(
        n_layers in 1u32..5,
        n_tokens in n_tokens(),
        k_block_bytes in block_bytes(),
        v_block_bytes in block_bytes(),
        dtype in any::<u8>(),
    ) -> BlobGeometry {
        BlobGeometry { n_layers, n_tokens, k_block_bytes, v_block_bytes, dtype }
    }
}

/// One chunk whose blob has this geometry, committed as its own document.
fn put_geometry(store: &ragweave_store::Store, seed: u32, geometry: &BlobGeometry) -> Vec<u32> {
    let token_ids: Vec<u32> = (0..geometry.n_tokens).map(|n| n ^ seed).collect();
    let blocks = layers(seed, geometry);
    let blocks = blocks.iter().map(|(k, v)| (k.as_slice(), v.as_slice()));
    let blob = store
        .append_blob(key(seed), *geometry, &token_ids, blocks)
        .unwrap();
    let mut document = document(&format!("d{seed}"), &[seed]);
    document.chunks[0].token_ids.clone_from(&token_ids);
    store.commit_document(&document, vec![blob]).unwrap();
    token_ids
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn blobs_of_any_geometry_survive_a_reopen(geometries in prop::collection::vec(geometry(), 1..6)) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let seeded: Vec<_> = (0u32..).zip(&geometries).collect();
        let ids: Vec<_> = seeded.iter().map(|(seed, g)| put_geometry(&store, *seed, g)).collect();
        drop(store);
        let store = open(dir.path());
        for ((seed, geometry), ids) in seeded.iter().zip(&ids) {
            let reader = store.open_blob(&key(*seed), ids).unwrap().unwrap();
            prop_assert_eq!(reader.geometry(), **geometry);
            prop_assert!(read_all(&reader).unwrap() == layers(*seed, geometry));
        }
        prop_assert!(store.verify(|_| ()).unwrap().is_clean());
    }
}

#[test]
fn a_blob_key_prints_and_parses_as_hex() {
    let key = BlobKey(std::array::from_fn(|n| n as u8 * 8));
    assert_eq!(key.to_string().parse(), Ok(key));
    assert!(key.to_string().starts_with("000810"));
    let upper = key.to_string().to_uppercase();
    for bad in ["", "00", "zz", &upper, &format!("{key}0"), &"ä".repeat(32)] {
        assert!(bad.parse::<BlobKey>().is_err(), "{bad}");
    }
}

#[test]
fn a_blob_is_found_only_after_its_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blob = append(&store, 1).unwrap();
    assert_miss(&store, 1);
    drop(blob);
    store
        .commit_document(&document("d", &[1]), Vec::new())
        .unwrap();
    assert_miss(&store, 1);
    assert!(!store.contains_blob(&key(1)).unwrap());
    let blob = append(&store, 1).unwrap();
    store.commit_blobs(vec![blob]).unwrap();
    assert_hit(&store, 1);
    assert!(store.contains_blob(&key(1)).unwrap());
    let stats = store.stats().unwrap();
    assert_eq!(
        (stats.hits, stats.misses.absent, stats.misses.total()),
        (1, 2, 2)
    );
}

#[test]
fn other_token_ids_are_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "d", &[1]);
    let mut other = ids(1);
    other[4] ^= 1;
    for ids in [&other, &ids(1)[..4], &[][..]] {
        assert!(store.open_blob(&key(1), ids).unwrap().is_none());
    }
    assert_hit(&store, 1);
    assert_eq!(store.stats().unwrap().misses.ids_differ, 3);
}

#[test]
fn a_blob_that_does_not_fit_its_geometry_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let good = layers(1, &GEOMETRY);
    let append = |geometry, ids: &[u32], layers: &[(Vec<u8>, Vec<u8>)]| {
        let blocks = layers.iter().map(|(k, v)| (k.as_slice(), v.as_slice()));
        store.append_blob(key(1), geometry, ids, blocks).map(drop)
    };
    let mut short = good.clone();
    short[2].1.pop();
    let too_many = [&good[..], &good[..1]].concat();
    let no_layers = BlobGeometry {
        n_layers: 0,
        ..GEOMETRY
    };
    let huge = BlobGeometry {
        k_block_bytes: u32::MAX,
        ..GEOMETRY
    };
    for (geometry, n_ids, layers) in [
        (GEOMETRY, 4, &good),
        (GEOMETRY, 5, &short),
        (GEOMETRY, 5, &too_many),
        (GEOMETRY, 5, &good[..2].to_vec()),
        (no_layers, 5, &Vec::new()),
        (huge, 5, &good),
    ] {
        let refused = append(geometry, &ids(1)[..n_ids], layers);
        assert!(
            matches!(refused, Err(StoreError::InvalidBlob { .. })),
            "{refused:?}"
        );
    }
    append(GEOMETRY, &ids(1), &good).unwrap();
}

#[test]
fn a_reader_refuses_wrong_buffers_and_layers() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "d", &[1]);
    let reader = open_blob(&store, 1).unwrap();
    for (layer, k_len, v_len) in [
        (3, 100, 5000),
        (usize::MAX, 100, 5000),
        (0, 99, 5000),
        (0, 100, 5001),
    ] {
        let read = reader.read_layer(layer, &mut vec![0; k_len], &mut vec![0; v_len]);
        assert!(
            matches!(read, Err(StoreError::InvalidBlob { .. })),
            "{read:?}"
        );
    }
    assert_eq!(store.stats().unwrap().misses.total(), 0);
}

#[test]
fn segments_roll_over_and_large_records_fit() {
    let dir = tempfile::tempdir().unwrap();
    // Room for a header, two records and their marks; then for not even one record.
    for (max_segment_bytes, expected_files) in [(3 * RECORD_BYTES, 3), (4096, 5)] {
        let dir = dir.path().join(max_segment_bytes.to_string());
        let options = ragweave_store::StoreOptions {
            max_segment_bytes,
            ..options()
        };
        let store = ragweave_store::Store::open(&dir, options.clone()).unwrap();
        for seed in 0..5 {
            put(&store, &format!("d{seed}"), &[seed]);
        }
        assert_eq!(segment_files(&dir).len(), expected_files);
        drop(store);
        let store = ragweave_store::Store::open(&dir, options).unwrap();
        (0..5).for_each(|seed| assert_hit(&store, seed));
    }
}
