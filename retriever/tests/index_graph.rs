//! Dense vectors with a graph: recall, removals, filters, searches during a build, and dumps that
//! are damaged, foreign or stale.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;
use ragweave_retriever::{
    DumpError, Embedding, Filter, GraphStatus, IndexKind, IndexOptions, VectorIndex,
};

const DIMENSION: usize = 24;
const EMBEDDER: &str = "test";

/// A seeded stream of vectors around 40 centres.
struct Mixture(u64);

impl Mixture {
    /// SplitMix64, in -1..1.
    fn number(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn vector(&mut self) -> Vec<f32> {
        let centre = ((self.number() + 1.0) * 20.0) as u64;
        let mut around = Self(centre);
        (0..DIMENSION)
            .map(|_| around.number() + 0.5 * self.number())
            .collect()
    }
}

fn options(kind: IndexKind) -> IndexOptions {
    IndexOptions {
        kind,
        ef_search: 64,
        ..IndexOptions::default()
    }
}

/// `n` chunks of `n / 4` documents; every second document is red.
fn filled(kind: IndexKind, n: usize) -> VectorIndex {
    let mut index = VectorIndex::new(options(kind));
    let mut vectors = Mixture(7);
    for i in 0..n {
        add(&mut index, i, vectors.vector());
    }
    index
}

fn add(index: &mut VectorIndex, i: usize, vector: Vec<f32>) {
    let document = i / 4;
    let colour = if document.is_multiple_of(2) {
        "red"
    } else {
        "blue"
    };
    let metadata = BTreeMap::from([("colour".to_owned(), colour.to_owned())]);
    let (chunk, document) = (format!("d{document}#{i}"), format!("d{document}"));
    index
        .insert(&chunk, &document, &metadata, Embedding::Dense(vector))
        .unwrap();
}

fn work(index: &mut VectorIndex) {
    while let Some(task) = index.graph_task() {
        let done = task.run(2, &AtomicBool::new(false)).unwrap();
        drop(index.install(done));
    }
}

fn built(n: usize) -> VectorIndex {
    let mut index = filled(IndexKind::Hnsw, n);
    work(&mut index);
    assert!(is_ready(&index));
    index
}

fn is_ready(index: &VectorIndex) -> bool {
    matches!(index.graph_status(), GraphStatus::Ready { .. })
}

fn ids(index: &VectorIndex, query: &[f32], top_k: usize, filter: &Filter) -> Vec<String> {
    let found = index.search(&Embedding::Dense(query.to_vec()), top_k, filter);
    found.unwrap().into_iter().map(|hit| hit.chunk_id).collect()
}

/// Mean share of the exact best 10 that are found.
fn recall(index: &VectorIndex, exact: &VectorIndex, filter: &Filter) -> f64 {
    let mut queries = Mixture(99);
    let n = 200;
    let hits: usize = (0..n)
        .map(|_| {
            let query = queries.vector();
            let best: HashSet<_> = ids(exact, &query, 10, filter).into_iter().collect();
            ids(index, &query, 10, filter)
                .iter()
                .filter(|id| best.contains(*id))
                .count()
        })
        .sum();
    hits as f64 / (10 * n) as f64
}

#[test]
fn nearly_all_of_the_exact_best_are_found() {
    let (index, exact) = (built(4_000), filled(IndexKind::Flat, 4_000));
    let open = recall(&index, &exact, &Filter::default());
    assert!(open >= 0.99, "{open}");
    let red = Filter {
        metadata: BTreeMap::from([("colour".into(), "red".into())]),
        ..Filter::default()
    };
    let red = recall(&index, &exact, &red);
    assert!(red >= 0.99, "{red}");
}

#[test]
fn the_graph_serves_and_is_not_merely_there() {
    let index = built(4_000);
    let exact = filled(IndexKind::Flat, 4_000);
    // A search that keeps few candidates overlooks some; an exact one would not.
    let mut poor = VectorIndex::new(IndexOptions {
        m: 4,
        ef_construction: 8,
        ef_search: 8,
        ..options(IndexKind::Hnsw)
    });
    let mut vectors = Mixture(7);
    (0..4_000).for_each(|i| add(&mut poor, i, vectors.vector()));
    work(&mut poor);
    let (poor, good) = (
        recall(&poor, &exact, &Filter::default()),
        recall(&index, &exact, &Filter::default()),
    );
    assert!(poor < good, "{poor} {good}");
}

#[test]
fn a_selective_filter_finds_all_that_pass() {
    let (index, exact) = (built(2_000), filled(IndexKind::Flat, 2_000));
    let few = Filter {
        document_ids: Some(BTreeSet::from(["d3".into(), "d77".into(), "none".into()])),
        ..Filter::default()
    };
    let query = Mixture(3).vector();
    let found = ids(&index, &query, 20, &few);
    assert_eq!(found.len(), 8);
    assert_eq!(found, ids(&exact, &query, 20, &few));
}

#[test]
fn removed_chunks_are_never_found_and_later_ones_are() {
    let (mut index, mut exact) = (built(2_000), filled(IndexKind::Flat, 2_000));
    for document in (0..500).filter(|d| d % 3 == 0) {
        assert_eq!(index.remove_document(&format!("d{document}")), 4);
        exact.remove_document(&format!("d{document}"));
    }
    let mut later = Mixture(1_000);
    for i in 2_000..2_150 {
        let vector = later.vector();
        add(&mut index, i, vector.clone());
        add(&mut exact, i, vector.clone());
        assert_eq!(
            ids(&index, &vector, 1, &Filter::default())[0],
            format!("d{}#{i}", i / 4)
        );
        if i == 2_100 {
            work(&mut index); // some of them go into the graph, the others are scanned
        }
    }
    assert!(is_ready(&index));
    let found = recall(&index, &exact, &Filter::default());
    assert!(found >= 0.99, "{found}");
    let mut queries = Mixture(5);
    for _ in 0..100 {
        for id in ids(&index, &queries.vector(), 30, &Filter::default()) {
            let document: usize = id[1..id.find('#').unwrap()].parse().unwrap();
            assert!(
                !document.is_multiple_of(3) || document >= 500,
                "{id} was removed"
            );
        }
    }
}

/// A task that was begun before the rows got new numbers would point to other chunks.
#[test]
fn work_on_rows_that_were_packed_meanwhile_is_void() {
    let mut index = filled(IndexKind::Hnsw, 1_000);
    let task = index.graph_task().unwrap();
    for document in 0..150 {
        index.remove_document(&format!("d{document}"));
    }
    let done = task.run(1, &AtomicBool::new(false)).unwrap();
    drop(index.install(done));
    assert_eq!(index.graph_status(), GraphStatus::Pending);
    let vector = Embedding::Dense(Mixture(7).vector());
    let hits = index.search(&vector, 1_000, &Filter::default()).unwrap();
    assert_eq!(hits.len(), 400);
}

#[test]
fn searches_and_changes_go_on_while_a_graph_is_built() {
    let index = RwLock::new(filled(IndexKind::Hnsw, 3_000));
    let exact = filled(IndexKind::Flat, 3_000);
    let task = index.read().unwrap().graph_task().unwrap();
    let building = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let builder = scope.spawn(|| {
            let done = task.run(2, &AtomicBool::new(false)).unwrap();
            building.store(false, Ordering::Relaxed);
            done
        });
        let mut queries = Mixture(11);
        let mut n_searches = 0;
        while building.load(Ordering::Relaxed) || n_searches == 0 {
            let query = queries.vector();
            let found = ids(&index.read().unwrap(), &query, 5, &Filter::default());
            assert_eq!(found, ids(&exact, &query, 5, &Filter::default()));
            n_searches += 1;
        }
        index.write().unwrap().remove_document("d0");
        drop(index.write().unwrap().install(builder.join().unwrap()));
    });
    let index = index.into_inner().unwrap();
    assert!(is_ready(&index));
    let first = ids(&index, &Mixture(7).vector(), 1, &Filter::default());
    assert_ne!(first, ["d0#0"]);
}

/// Rows that go into a graph while it is searched are found once each.
#[test]
fn searches_go_on_while_a_graph_grows() {
    let mut index = built(1_000);
    let mut vectors = Mixture(21);
    (1_000..3_000).for_each(|i| add(&mut index, i, vectors.vector()));
    let task = index.graph_task().unwrap();
    std::thread::scope(|scope| {
        let builder = scope.spawn(|| task.run(2, &AtomicBool::new(false)).unwrap());
        let mut queries = Mixture(11);
        loop {
            let found = ids(&index, &queries.vector(), 10, &Filter::default());
            let different: HashSet<_> = found.iter().collect();
            assert_eq!((found.len(), different.len()), (10, 10));
            if builder.is_finished() {
                break;
            }
        }
    });
}

#[test]
fn a_stopped_build_leaves_an_exact_index() {
    let mut index = filled(IndexKind::Hnsw, 2_000);
    assert!(
        index
            .graph_task()
            .unwrap()
            .run(1, &AtomicBool::new(true))
            .is_none()
    );
    assert_eq!(index.graph_status(), GraphStatus::Pending);
    work(&mut index);
    assert!(is_ready(&index));
}

#[test]
fn auto_builds_from_the_threshold_on() {
    let at = |n| {
        let mut index = VectorIndex::new(IndexOptions {
            hnsw_threshold: 500,
            ..options(IndexKind::Auto)
        });
        let mut vectors = Mixture(7);
        (0..n).for_each(|i| add(&mut index, i, vectors.vector()));
        index.graph_status()
    };
    assert_eq!(
        (at(499), at(500)),
        (GraphStatus::Unwanted, GraphStatus::Pending)
    );
}

fn dumped(n: usize, dir: &Path) -> VectorIndex {
    let index = built(n);
    index.dump(EMBEDDER).unwrap().write(dir).unwrap();
    index
}

#[test]
fn a_dump_restores_the_graph_with_later_chunks_and_another_order() {
    let dir = tempfile::tempdir().unwrap();
    let before = dumped(1_000, dir.path());
    let mut vectors = Mixture(7);
    let vectors: Vec<_> = (0..1_100).map(|i| (i, vectors.vector())).collect();
    let mut index = VectorIndex::new(options(IndexKind::Hnsw));
    for (i, vector) in vectors.iter().rev() {
        add(&mut index, *i, vector.clone());
    }
    index.restore(dir.path(), EMBEDDER).unwrap();
    assert_eq!(index.graph_status(), before.graph_status());
    let found = recall(&index, &filled(IndexKind::Flat, 1_100), &Filter::default());
    assert!(found >= 0.99, "{found}");
    for (i, vector) in vectors {
        assert_eq!(
            ids(&index, &vector, 1, &Filter::default()),
            [format!("d{}#{i}", i / 4)]
        );
    }
    work(&mut index);
    assert_eq!(index.graph_status(), GraphStatus::Ready { rows: 1_088 });
}

#[test]
fn a_second_dump_replaces_the_first() {
    let dir = tempfile::tempdir().unwrap();
    dumped(1_000, dir.path());
    let index = dumped(640, dir.path());
    let mut again = filled(IndexKind::Hnsw, 640);
    again.restore(dir.path(), EMBEDDER).unwrap();
    assert_eq!(again.graph_status(), index.graph_status());
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// What `restore` says about a dump after `damage`; the index must then work without it.
fn refused(damage: impl FnOnce(&Path)) -> DumpError {
    let dir = tempfile::tempdir().unwrap();
    dumped(640, dir.path());
    damage(&dir.path().join("hnsw"));
    let mut index = filled(IndexKind::Hnsw, 640);
    let error = index.restore(dir.path(), EMBEDDER).unwrap_err();
    assert_eq!(index.graph_status(), GraphStatus::Pending);
    work(&mut index);
    assert!(is_ready(&index));
    let vector = Mixture(7).vector();
    assert_eq!(ids(&index, &vector, 1, &Filter::default()), ["d0#0"]);
    error
}

const FILES: [&str; 4] = [
    "points.hnsw.graph",
    "points.hnsw.data",
    "rows",
    "manifest.json",
];

#[test]
fn a_dump_without_one_of_its_files_is_refused() {
    for name in FILES {
        let error = refused(|dir| fs::remove_file(dir.join(name)).unwrap());
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(matches!(
        refused(|dir| fs::remove_dir_all(dir).unwrap()),
        DumpError::Absent { .. }
    ));
}

#[test]
fn a_truncated_file_is_refused() {
    for name in FILES {
        for keep in [0, 1, 2] {
            let error = refused(|dir| {
                let bytes = fs::read(dir.join(name)).unwrap();
                fs::write(dir.join(name), &bytes[..bytes.len() * keep / 3]).unwrap();
            });
            assert!(matches!(error, DumpError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

#[test]
fn a_flipped_bit_is_refused() {
    for name in &FILES[..3] {
        for place in [0, 3, 9] {
            let error = refused(|dir| {
                let mut bytes = fs::read(dir.join(name)).unwrap();
                let at = (bytes.len() - 1) * place / 9;
                bytes[at] ^= 1;
                fs::write(dir.join(name), bytes).unwrap();
            });
            assert!(matches!(error, DumpError::Damaged { .. }), "{error}");
        }
    }
}

#[test]
fn a_manifest_with_any_flipped_bit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    dumped(128, dir.path());
    let manifest = dir.path().join("hnsw/manifest.json");
    let bytes = fs::read(&manifest).unwrap();
    for at in (0..bytes.len()).filter(|&at| !bytes[at].is_ascii_whitespace()) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&manifest, damaged).unwrap();
        let restored = filled(IndexKind::Hnsw, 128).restore(dir.path(), EMBEDDER);
        assert!(
            restored.is_err(),
            "byte {at} of {}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

fn change_manifest(dir: &Path, from: &str, to: &str) {
    let path = dir.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn another_version_or_setting_is_named() {
    let error = refused(|dir| change_manifest(dir, "\"format\": 1", "\"format\": 2"));
    let DumpError::OtherSettings {
        field,
        found,
        expected,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((field, &*found, &*expected), ("format", "2", "1"));
    let error = refused(|dir| change_manifest(dir, "\"m\": 16", "\"m\": 300"));
    assert!(error.to_string().contains("m 300"), "{error}");
    let error = refused(|dir| change_manifest(dir, "\"test\"", "\"another\""));
    assert!(error.to_string().contains("embedder another"), "{error}");
    let error =
        refused(|dir| change_manifest(dir, "\"rows\": 640", "\"rows\": 9223372036854775808"));
    assert!(error.to_string().contains("rows"), "{error}");
}

/// Files of another dump, each intact in itself.
#[test]
fn files_of_another_dump_are_refused() {
    let other = tempfile::tempdir().unwrap();
    dumped(704, other.path());
    for name in FILES {
        let error = refused(|dir| {
            fs::copy(other.path().join("hnsw").join(name), dir.join(name)).unwrap();
        });
        assert!(
            matches!(error, DumpError::Damaged { .. }),
            "{name}: {error}"
        );
    }
    let error = refused(|dir| {
        for name in FILES {
            fs::copy(other.path().join("hnsw").join(name), dir.join(name)).unwrap();
        }
    });
    assert!(
        matches!(
            error,
            DumpError::Stale {
                missing: 64,
                rows: 704
            }
        ),
        "{error}"
    );
}

#[test]
fn a_dump_of_replaced_chunks_is_stale() {
    let dir = tempfile::tempdir().unwrap();
    dumped(640, dir.path());
    let mut index = filled(IndexKind::Hnsw, 640);
    index.remove_document("d5");
    let mut others = Mixture(123);
    (20..24).for_each(|i| add(&mut index, i, others.vector()));
    let error = index.restore(dir.path(), EMBEDDER).unwrap_err();
    assert!(
        matches!(
            error,
            DumpError::Stale {
                missing: 4,
                rows: 640
            }
        ),
        "{error}"
    );
}

#[test]
fn a_graph_with_dead_rows_is_not_dumped() {
    let mut index = built(640);
    assert_eq!(index.dump(EMBEDDER).unwrap().rows(), 640);
    index.remove_document("d5");
    assert!(index.dump(EMBEDDER).is_none());
    assert!(filled(IndexKind::Flat, 640).dump(EMBEDDER).is_none());
}

/// Copies of one text would otherwise hide what is reached only through them.
#[test]
fn a_vector_that_occurs_often_hides_no_other() {
    let (mut index, mut exact) = (
        VectorIndex::new(options(IndexKind::Hnsw)),
        VectorIndex::new(options(IndexKind::Flat)),
    );
    let mut vectors = Mixture(7);
    let common = vectors.vector();
    for i in 0..3_000 {
        let vector = if i % 3 == 0 {
            vectors.vector()
        } else {
            common.clone()
        };
        add(&mut index, i, vector.clone());
        add(&mut exact, i, vector);
    }
    work(&mut index);
    let found = recall(&index, &exact, &Filter::default());
    assert!(found >= 0.99, "{found}");
}
