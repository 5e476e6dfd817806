//! How fast layers are read from a store, compared with plain reads of the same size from the same file by as many
//! threads: from front to back; in the order of the store's reads; and in that order with a crc32c over the bytes:
//! `cargo bench -p ragweave-store --bench read -- [DIR]`.
//!
//! The store is read as the engine reads it: two threads, each layer of all chunks before the next layer, every byte
//! verified. Rounds of all four alternate; the medians are shown. `kept` means that the kernel was asked to drop the pages
//! and kept them, as it does with mapped pages: such reads do not come from the disk.

#![expect(clippy::unwrap_used, reason = "a panic is how a bench fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use aligned_vec::{AVec, ConstAlign};
use fs_err::os::unix::fs::FileExt as _;
use ragweave_store::page_cache::{self, Residency};
use ragweave_store::{
    BlobGeometry, BlobKey, BlobReader, ChunkRecord, Disk, Document, Identity, KvIo, OsDisk, Store,
    StoreOptions,
};

const N_THREADS: usize = 2;
const N_CHUNKS: u32 = 12;
const N_LAYERS: u32 = 30;
const N_TOKENS: u32 = 512;
/// 512 tokens of SmolLM2-135M in f32: 3 heads of 64.
const BLOCK_BYTES: u32 = N_TOKENS * 3 * 64 * 4;
const LAYER_BYTES: usize = 2 * BLOCK_BYTES as usize;
const ROUNDS: usize = 5;

/// Whether the file is in the page cache when a round begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    Cold,
    Warm,
}

/// The order of plain reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    /// From front to back, as `dd bs=` the size of a layer does.
    Through,
    /// A layer of each chunk in turn, as the store is read.
    InTurns,
    /// The same, with a crc32c over the bytes.
    Checked,
}

fn main() {
    let parent = std::env::args()
        .skip(1)
        .find(|arg| !arg.starts_with('-'))
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new()
        .prefix("ragweave-read.")
        .tempdir_in(parent)
        .unwrap();
    fill(dir.path());
    let layer_kib = LAYER_BYTES >> 10;
    println!(
        "{N_CHUNKS} chunks x {N_LAYERS} layers x {layer_kib} KiB, {N_THREADS} threads, median of {ROUNDS} rounds, GB/s"
    );
    println!(
        "{:7} {:5} {:>7} {:>8} {:>7} {:>7} {:>9} {:>9}",
        "way", "cache", "file", "in turns", "+ crc", "store", "of turns", "of + crc"
    );
    for kv_io in [KvIo::Pread, KvIo::Direct, KvIo::Uring, KvIo::Mmap] {
        if let Some(why) = kv_io.obstacle(dir.path()) {
            println!("{kv_io:7} {why}");
            continue;
        }
        for cache in [Cache::Cold, Cache::Warm] {
            measure(dir.path(), kv_io, cache);
        }
    }
}

fn measure(dir: &Path, kv_io: KvIo, cache: Cache) {
    let readers = open(dir, kv_io);
    let plain = [Plain::Through, Plain::InTurns, Plain::Checked];
    let mut rates = [const { Vec::new() }; 4];
    let mut is_cold = true;
    for _ in 0..ROUNDS {
        for (list, plain) in rates.iter_mut().zip(plain) {
            is_cold &= prepare(dir, cache);
            list.push(gb_per_s(|| read_files(dir, kv_io, plain)));
        }
        is_cold &= prepare(dir, cache);
        rates[3].push(gb_per_s(|| read_store(&readers)));
    }
    let [file, turns, checked, store] = rates.map(median);
    let cache = match cache {
        Cache::Cold if is_cold => "cold",
        Cache::Cold => "kept",
        Cache::Warm => "warm",
    };
    let kv_io = kv_io.to_string();
    let share = |bound: f64| 100.0 * store / bound;
    println!(
        "{kv_io:7} {cache:5} {file:7.2} {turns:8.2} {checked:7.2} {store:7.2} {:8.0}% {:8.0}%",
        share(turns),
        share(checked)
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Speed of work that returns how many bytes it read.
fn gb_per_s(work: impl Fn() -> usize) -> f64 {
    let start = Instant::now();
    let bytes = work();
    bytes as f64 / start.elapsed().as_secs_f64() / 1e9
}

/// Runs `work(buffer, job)` for all jobs on the threads; returns the number of bytes read.
fn on_threads(n_jobs: usize, work: impl Fn(&mut [u8], usize) + Sync) -> usize {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..N_THREADS {
            scope.spawn(|| {
                let mut buffer: AVec<u8, ConstAlign<4096>> = AVec::new(4096);
                buffer.resize(LAYER_BYTES, 0);
                while let job = next.fetch_add(1, Ordering::Relaxed)
                    && job < n_jobs
                {
                    work(&mut buffer, job);
                }
            });
        }
    });
    n_jobs * LAYER_BYTES
}

/// Layer by layer, all chunks of one layer before the next.
fn read_store(readers: &[BlobReader]) -> usize {
    on_threads(readers.len() * N_LAYERS as usize, |buffer, job| {
        let (layer, chunk) = (job / readers.len(), job % readers.len());
        readers[chunk].read_layer_into(layer, buffer).unwrap();
    })
}

/// Reads every piece, each as large as a layer, in the order of `plain`.
fn read_files(dir: &Path, kv_io: KvIo, plain: Plain) -> usize {
    let path = &segment_files(dir)[0];
    let file = match kv_io {
        KvIo::Direct | KvIo::Uring => OsDisk.open_direct(path).unwrap(),
        KvIo::Auto | KvIo::Pread | KvIo::Mmap => fs_err::File::open(path).unwrap(),
    };
    let (n_chunks, n_layers) = (N_CHUNKS as usize, N_LAYERS as usize);
    on_threads(n_chunks * n_layers, |buffer, job| {
        let piece = match plain {
            Plain::Through => job,
            Plain::InTurns | Plain::Checked => job % n_chunks * n_layers + job / n_chunks,
        };
        file.read_exact_at(buffer, (piece * LAYER_BYTES) as u64)
            .unwrap();
        if plain == Plain::Checked {
            std::hint::black_box(crc32c::crc32c(buffer));
        }
    })
}

/// Puts the files into the page cache or drops them from it; returns whether they are out of it.
fn prepare(dir: &Path, cache: Cache) -> bool {
    let mut left = Residency::default();
    for path in segment_files(dir) {
        match cache {
            Cache::Warm => drop(fs_err::read(path).unwrap()),
            Cache::Cold => left = left.and(page_cache::forget(&path).unwrap()),
        }
    }
    cache == Cache::Cold && left.is_cold()
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(dir.join("segments")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn options(kv_io: KvIo) -> StoreOptions {
    let identity = Identity {
        fingerprint: [1; 32],
        description: "bench".to_owned(),
        fields: Default::default(),
    };
    StoreOptions {
        kv_io,
        ..StoreOptions::new(identity)
    }
}

fn key(chunk: u32) -> BlobKey {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&chunk.to_le_bytes());
    BlobKey(key)
}

fn ids(chunk: u32) -> Vec<u32> {
    (0..N_TOKENS).map(|n| chunk * N_TOKENS + n).collect()
}

fn open(dir: &Path, kv_io: KvIo) -> Vec<BlobReader> {
    let store = Store::open(dir, options(kv_io)).unwrap();
    (0..N_CHUNKS)
        .map(|chunk| store.open_blob(&key(chunk), &ids(chunk)).unwrap().unwrap())
        .collect()
}

/// Writes the chunks of one document, in one segment.
fn fill(dir: &Path) {
    let store = Store::open(dir, options(KvIo::Auto)).unwrap();
    let geometry = BlobGeometry {
        n_layers: N_LAYERS,
        n_tokens: N_TOKENS,
        k_block_bytes: BLOCK_BYTES,
        v_block_bytes: BLOCK_BYTES,
        dtype: 1,
    };
    let block: Vec<u8> = (0..BLOCK_BYTES).map(|n| (n * 31 % 251) as u8).collect();
    let mut blobs = Vec::new();
    for chunk in 0..N_CHUNKS {
        let layers = (0..N_LAYERS).map(|_| (block.as_slice(), block.as_slice()));
        blobs.push(
            store
                .append_blob(key(chunk), geometry, &ids(chunk), layers)
                .unwrap(),
        );
    }
    let chunks = (0..N_CHUNKS).map(|chunk| ChunkRecord {
        id: format!("bench#{chunk}"),
        start_byte: 0,
        end_byte: 0,
        token_ids: ids(chunk),
        conditioning_ids: Vec::new(),
        key: key(chunk),
        vector: Vec::new(),
        notes: Vec::new(),
    });
    let document = Document {
        id: "bench".to_owned(),
        text: String::new(),
        metadata: BTreeMap::new(),
        content_hash: [0; 32],
        chunks: chunks.collect(),
    };
    store.commit_document(&document, blobs).unwrap();
}
