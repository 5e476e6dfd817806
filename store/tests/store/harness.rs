//! Deterministic documents and blobs, and the checks that every test uses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ragweave_store::{
    BlobGeometry, BlobKey, BlobReader, ChunkRecord, Disk, Document, Identity, PendingBlob, Store,
    StoreError, StoreOptions,
};

/// Blocks that are neither a page nor a multiple of one: K fits a page, V needs two.
pub(crate) const GEOMETRY: BlobGeometry = BlobGeometry {
    n_layers: 3,
    n_tokens: 5,
    k_block_bytes: 100,
    v_block_bytes: 5000,
    dtype: 2,
};
/// Head, three layers of one page of K and two of V, footer.
pub(crate) const RECORD_BYTES: u64 = (1 + 3 * 3 + 1) * 4096;

/// K block and V block of each layer.
pub(crate) type Layers = Vec<(Vec<u8>, Vec<u8>)>;

pub(crate) fn identity(tag: u8) -> Identity {
    Identity {
        fingerprint: [tag; 32],
        description: format!("model {tag}"),
        fields: [("kv_dtype".to_owned(), format!("type {tag}"))].into(),
    }
}

/// Options of model 1 that need no free space.
pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        min_free_bytes: 0,
        ..StoreOptions::new(identity(1))
    }
}

pub(crate) fn open(dir: &Path) -> Store {
    Store::open(dir, options()).unwrap()
}

pub(crate) fn open_on(dir: &Path, disk: &Arc<impl Disk + 'static>) -> Store {
    Store::open_on(dir, options(), Arc::clone(disk) as Arc<dyn Disk>).unwrap()
}

pub(crate) fn key(seed: u32) -> BlobKey {
    let mut key = [0xab; 32];
    key[..4].copy_from_slice(&seed.to_le_bytes());
    BlobKey(key)
}

pub(crate) fn ids(seed: u32) -> Vec<u32> {
    (0..GEOMETRY.n_tokens)
        .map(|n| seed.wrapping_mul(1000).wrapping_add(n))
        .collect()
}

/// Between none and three ids.
pub(crate) fn conditioning_ids(seed: u32) -> Vec<u32> {
    (0..seed % 4).map(|n| !ids(seed)[n as usize]).collect()
}

/// Bytes that differ between seeds, layers, kinds and positions.
pub(crate) fn pattern(seed: u32, layer: usize, kind: u8, len: usize) -> Vec<u8> {
    let mut state = u64::from(seed) << 32 | (layer as u64) << 8 | u64::from(kind);
    let next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// The blocks of blob `seed`.
pub(crate) fn layers(seed: u32, geometry: &BlobGeometry) -> Layers {
    let block = |layer, kind, len| pattern(seed, layer, kind, len as usize);
    (0..geometry.n_layers as usize)
        .map(|layer| {
            (
                block(layer, 0, geometry.k_block_bytes),
                block(layer, 1, geometry.v_block_bytes),
            )
        })
        .collect()
}

pub(crate) fn append(store: &Store, seed: u32) -> Result<PendingBlob, StoreError> {
    let layers = layers(seed, &GEOMETRY);
    let blocks = layers.iter().map(|(k, v)| (k.as_slice(), v.as_slice()));
    store.append_blob(key(seed), GEOMETRY, &ids(seed), blocks)
}

/// A document with one chunk for each seed.
pub(crate) fn document(id: &str, seeds: &[u32]) -> Document {
    let text: String = seeds
        .iter()
        .map(|seed| format!("chunk {seed:>10}. "))
        .collect();
    let chunks = (0u64..).zip(seeds).map(|(n, seed)| ChunkRecord {
        id: format!("{id}#{n}"),
        start_byte: n * 18,
        end_byte: (n + 1) * 18,
        token_ids: ids(*seed),
        conditioning_ids: conditioning_ids(*seed),
        key: key(*seed),
        vector: pattern(*seed, 0, 2, 16),
        notes: pattern(*seed, 0, 3, *seed as usize % 3 * 7),
    });
    Document {
        id: id.to_owned(),
        metadata: BTreeMap::from([("kind".to_owned(), format!("{} chunks", seeds.len()))]),
        content_hash: [seeds.len() as u8; 32],
        chunks: chunks.collect(),
        text,
    }
}

/// Commits `document(id, seeds)` with all its blobs.
pub(crate) fn try_put(store: &Store, id: &str, seeds: &[u32]) -> Result<u64, StoreError> {
    let blobs = seeds
        .iter()
        .map(|seed| append(store, *seed))
        .collect::<Result<_, _>>()?;
    store.commit_document(&document(id, seeds), blobs)
}

pub(crate) fn put(store: &Store, id: &str, seeds: &[u32]) -> u64 {
    try_put(store, id, seeds).unwrap()
}

pub(crate) fn open_blob(store: &Store, seed: u32) -> Option<BlobReader> {
    store.open_blob(&key(seed), &ids(seed)).unwrap()
}

/// Reads every layer; `Err` is the first layer that cannot be read.
pub(crate) fn read_all(reader: &BlobReader) -> Result<Layers, StoreError> {
    let geometry = reader.geometry();
    (0..geometry.n_layers as usize)
        .map(|layer| {
            let mut k = vec![0; geometry.k_block_bytes as usize];
            let mut v = vec![0; geometry.v_block_bytes as usize];
            reader.read_layer(layer, &mut k, &mut v).map(|()| (k, v))
        })
        .collect()
}

pub(crate) fn assert_hit(store: &Store, seed: u32) {
    let reader = open_blob(store, seed).unwrap_or_else(|| panic!("blob {seed} is missed"));
    assert!(
        read_all(&reader).unwrap() == layers(seed, &GEOMETRY),
        "blob {seed} has other bytes"
    );
}

pub(crate) fn assert_miss(store: &Store, seed: u32) {
    assert!(open_blob(store, seed).is_none(), "blob {seed} is found");
}

/// What a lookup and a read of all layers give: the right bytes or nothing.
pub(crate) fn is_readable(store: &Store, seed: u32) -> bool {
    let Some(reader) = open_blob(store, seed) else {
        return false;
    };
    match read_all(&reader) {
        Ok(read) => {
            assert!(
                read == layers(seed, &GEOMETRY),
                "blob {seed} was served with wrong bytes"
            );
            true
        }
        Err(error) => {
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
            false
        }
    }
}

pub(crate) fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(dir.join("segments")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The only segment file of a store.
pub(crate) fn segment_file(dir: &Path) -> PathBuf {
    let mut files = segment_files(dir);
    assert_eq!(files.len(), 1);
    files.remove(0)
}

/// Offset of a blob's record in a segment's bytes.
pub(crate) fn record_offset(segment: &[u8], seed: u32) -> usize {
    let is_record = |page: &[u8]| page.starts_with(b"RWRECORD") && page[32..64] == key(seed).0;
    let (pages, _) = segment.as_chunks::<4096>();
    pages.iter().position(|page| is_record(page)).unwrap() * 4096
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs_err::create_dir_all(to).unwrap();
    for entry in fs_err::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs_err::copy(&path, &target).unwrap();
        }
    }
}

/// A small seeded generator, so that a failure names its seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
