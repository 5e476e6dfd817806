//! Random operations against a model in memory. A failure names the seed that repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ragweave_store::{Store, StoreOptions};

use crate::harness::*;

const SEEDS: u64 = 12;
const STEPS: usize = 120;
const BLOBS: u64 = 14;
const DOCUMENTS: u64 = 6;

/// What the store should hold.
#[derive(Default)]
struct Model {
    documents: BTreeMap<String, Vec<u32>>,
    live: BTreeSet<u32>,
    quarantined: BTreeSet<u32>,
}

impl Model {
    fn is_referenced(&self, seed: u32) -> bool {
        self.documents.values().any(|seeds| seeds.contains(&seed))
    }

    fn forget_unreferenced(&mut self) {
        let documents = &self.documents;
        let referenced = |seed: &u32| documents.values().any(|seeds| seeds.contains(seed));
        self.live.retain(referenced);
        self.quarantined.retain(referenced);
    }

    fn add_blob(&mut self, seed: u32) {
        if self.is_referenced(seed) {
            self.live.insert(seed);
            self.quarantined.remove(&seed);
        }
    }

    fn check(&self, store: &Store) {
        let listed = store.list_documents(None, usize::MAX).unwrap();
        let ids: Vec<_> = listed.iter().map(|document| &document.id).collect();
        assert_eq!(ids, self.documents.keys().collect::<Vec<_>>());
        for (id, seeds) in &self.documents {
            assert_eq!(store.document(id).unwrap(), Some(document(id, seeds)));
        }
        for seed in 0..BLOBS as u32 {
            let is_live = self.live.contains(&seed);
            assert_eq!(
                store.contains_blob(&key(seed)).unwrap(),
                is_live,
                "blob {seed}"
            );
            assert_eq!(is_readable(store, seed), is_live, "blob {seed}");
        }
        let stats = store.stats().unwrap();
        assert_eq!(stats.documents, self.documents.len() as u64);
        assert_eq!(
            stats.chunks,
            self.documents
                .values()
                .map(|seeds| seeds.len() as u64)
                .sum()
        );
        assert_eq!(stats.blobs, self.live.len() as u64);
        assert_eq!(stats.quarantined, self.quarantined.len() as u64);
        assert_eq!(
            stats.live_bytes,
            (stats.blobs + stats.quarantined) * RECORD_BYTES
        );
        assert_eq!(stats.total_bytes, stats.live_bytes + stats.dead_bytes);
    }
}

fn open_small(dir: &Path) -> Store {
    let options = StoreOptions {
        max_segment_bytes: 4 * RECORD_BYTES,
        ..options()
    };
    Store::open(dir, options).unwrap()
}

fn random_seeds(random: &mut Random) -> Vec<u32> {
    (0..random.below(4))
        .map(|_| random.below(BLOBS) as u32)
        .collect()
}

/// Writes some of a document's blobs, not always all, and sometimes one too many.
fn put_random(store: &Store, model: &mut Model, random: &mut Random) {
    let id = format!("d{}", random.below(DOCUMENTS));
    let seeds = random_seeds(random);
    let mut with_blob = seeds.clone();
    with_blob.retain(|_| random.below(4) > 0);
    with_blob.extend((random.below(5) == 0).then(|| random.below(BLOBS) as u32));
    let blobs = with_blob
        .iter()
        .map(|seed| append(store, *seed).unwrap())
        .collect();
    store
        .commit_document(&document(&id, &seeds), blobs)
        .unwrap();
    model.documents.insert(id, seeds);
    model.forget_unreferenced();
    with_blob.iter().for_each(|seed| model.add_blob(*seed));
}

fn remove_random(store: &Store, model: &mut Model, random: &mut Random) {
    let id = format!("d{}", random.below(DOCUMENTS));
    let expected = model.documents.remove(&id).is_some();
    assert_eq!(store.remove_document(&id).unwrap(), expected);
    model.forget_unreferenced();
}

fn add_random_blobs(store: &Store, model: &mut Model, random: &mut Random) {
    let seeds = random_seeds(random);
    let blobs = seeds
        .iter()
        .map(|seed| append(store, *seed).unwrap())
        .collect();
    store.commit_blobs(blobs).unwrap();
    seeds.iter().for_each(|seed| model.add_blob(*seed));
}

fn quarantine_random(store: &Store, model: &mut Model, random: &mut Random) {
    let seed = random.below(BLOBS) as u32;
    let opened = open_blob(store, seed);
    assert_eq!(opened.is_some(), model.live.remove(&seed));
    if let Some(blob) = opened {
        assert!(store.quarantine(&blob, "model").unwrap());
        model.quarantined.insert(seed);
    }
}

#[test]
fn the_store_behaves_like_a_map() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let dir = tempfile::tempdir().unwrap();
        let mut random = Random::new(seed);
        let mut model = Model::default();
        let mut store = open_small(dir.path());
        for _ in 0..STEPS {
            match random.below(12) {
                0..5 => put_random(&store, &mut model, &mut random),
                5..7 => remove_random(&store, &mut model, &mut random),
                7..9 => add_random_blobs(&store, &mut model, &mut random),
                9 => quarantine_random(&store, &mut model, &mut random),
                10 => drop(append(&store, 0).unwrap()),
                _ => {
                    drop(store);
                    store = open_small(dir.path());
                }
            }
            model.check(&store);
        }
        let ids: Vec<_> = model.documents.keys().cloned().collect();
        ids.iter()
            .for_each(|id| assert!(store.remove_document(id).unwrap()));
        drop(store);
        drop(open_small(dir.path()));
        assert_eq!(
            segment_files(dir.path()).len(),
            0,
            "an empty store keeps a segment"
        );
    }
}
