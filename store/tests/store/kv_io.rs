//! Reading whole layers in every way: the result is the written bytes or an error, and `pread` is used
//! where the system refuses.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aligned_vec::{AVec, ConstAlign};
use fs_err::os::unix::fs::FileExt as _;
use ragweave_store::{BlobReader, Disk, KvIo, OsDisk, Store, StoreError, StoreOptions};

use crate::disks::FaultyDisk;
use crate::harness::*;

/// One page of K, two of V.
const LAYER_BYTES: usize = 3 * 4096;
const SPECIAL: [KvIo; 3] = [KvIo::Direct, KvIo::Uring, KvIo::Mmap];

fn with_io(kv_io: KvIo) -> StoreOptions {
    StoreOptions { kv_io, ..options() }
}

fn open_with(dir: &Path, kv_io: KvIo) -> Store {
    Store::open(dir, with_io(kv_io)).unwrap()
}

type Page = AVec<u8, ConstAlign<4096>>;

/// A buffer for one layer, filled with junk.
fn buffer() -> Page {
    let mut buffer = AVec::new(4096);
    buffer.resize(LAYER_BYTES, 0xaa);
    buffer
}

fn read(reader: &BlobReader, layer: usize) -> Result<Page, StoreError> {
    let mut bytes = buffer();
    let read = reader.read_layer_into(layer, &mut bytes);
    if read.is_err() {
        assert!(
            bytes.iter().all(|byte| *byte == 0),
            "bytes of a bad layer were left in the buffer"
        );
    }
    read.map(|()| bytes)
}

/// Blob `seed` comes back whole, its blocks in their places and zeros between them.
fn assert_layers(reader: &BlobReader, seed: u32) {
    for (layer, (k, v)) in layers(seed, &GEOMETRY).iter().enumerate() {
        let bytes = read(reader, layer).unwrap();
        assert!(bytes[..100] == k[..] && bytes[4096..9096] == v[..]);
        let padding = bytes[100..4096].iter().chain(&bytes[9096..]);
        assert!(padding.copied().all(|byte| byte == 0));
    }
}

/// A store with blobs 1 and 2 in a sealed segment and blob 3 in the active one.
fn filled(dir: &Path, kv_io: KvIo) -> Store {
    put(&open(dir), "sealed", &[1, 2]);
    let store = open_with(dir, kv_io);
    put(&store, "active", &[3]);
    store
}

#[test]
fn every_way_gives_the_bytes_that_were_written() {
    for kv_io in KvIo::ALL {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path(), kv_io);
        for seed in 1..=3 {
            assert_layers(&open_blob(&store, seed).unwrap(), seed);
        }
        let stats = store.stats().unwrap();
        assert_eq!(stats.kv_io, kv_io);
        let obstacle = kv_io.obstacle(dir.path());
        assert_eq!(stats.kv_io_refusal, obstacle, "doctor and stats agree");
        assert_eq!(stats.misses.total(), 0);
    }
}

#[test]
fn a_buffer_off_a_page_border_is_read_too() {
    for kv_io in SPECIAL {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path(), kv_io);
        let reader = open_blob(&store, 1).unwrap();
        let mut bytes = vec![0; LAYER_BYTES + 1];
        reader.read_layer_into(1, &mut bytes[1..]).unwrap();
        assert!(bytes[1..] == read(&reader, 1).unwrap()[..]);
    }
}

#[test]
fn layers_larger_than_a_queue_of_pieces_are_read_whole() {
    let geometry = ragweave_store::BlobGeometry {
        n_layers: 1,
        n_tokens: 5,
        k_block_bytes: 6 << 20,
        v_block_bytes: (1 << 20) + 3,
        dtype: 0,
    };
    let dir = tempfile::tempdir().unwrap();
    let blob_layers = layers(9, &geometry);
    let [(k, v)] = &blob_layers[..] else {
        panic!("one layer")
    };
    let store = open(dir.path());
    let blocks = [(k.as_slice(), v.as_slice())].into_iter();
    let blob = store.append_blob(key(9), geometry, &ids(9), blocks);
    store
        .commit_document(&document("d", &[9]), vec![blob.unwrap()])
        .unwrap();
    drop(store);
    for kv_io in SPECIAL {
        let store = open_with(dir.path(), kv_io);
        let mut bytes: Page = AVec::new(4096);
        bytes.resize((7 << 20) + 4096, 0);
        let reader = open_blob(&store, 9).unwrap();
        reader.read_layer_into(0, &mut bytes).unwrap();
        assert!(bytes[..6 << 20] == k[..] && bytes[6 << 20..][..v.len()] == v[..]);
    }
}

#[test]
fn damage_is_found_in_every_way() {
    for kv_io in KvIo::ALL {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path(), kv_io);
        let path = &segment_files(dir.path())[0];
        let bytes = fs_err::read(path).unwrap();
        let file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
        let reader = open_blob(&store, 1).unwrap();
        for (layer, offset, block) in [(0, 50, "K"), (1, 4096 + 4999, "V")] {
            let at = record_offset(&bytes, 1) + 4096 + layer * LAYER_BYTES + offset;
            file.write_all_at(&[!bytes[at]], at as u64).unwrap();
            file.sync_all().unwrap();
            let error = read(&reader, layer).unwrap_err().to_string();
            let expected = format!("{block} block of layer {layer} fails its checksum");
            assert!(error.ends_with(&expected), "{kv_io}: {error}");
        }
        assert_eq!(store.stats().unwrap().misses.corrupt, 2);
        assert_layers(&open_blob(&store, 2).unwrap(), 2);
    }
}

#[test]
fn a_file_cut_under_an_open_reader_is_corrupt_in_every_way() {
    for kv_io in KvIo::ALL {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path(), kv_io);
        let path = &segment_files(dir.path())[0];
        let bytes = fs_err::read(path).unwrap();
        let reader = open_blob(&store, 1).unwrap();
        assert_layers(&reader, 1); // opens and maps the files
        let layer_1 = record_offset(&bytes, 1) + 4096 + LAYER_BYTES;
        let file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
        for len in [layer_1 + 2 * 4096, layer_1 + 1, layer_1] {
            file.set_len(len as u64).unwrap();
            read(&reader, 0).unwrap();
            let cut = read(&reader, 1);
            assert!(
                matches!(cut, Err(StoreError::Corrupt { .. })),
                "{kv_io}: {cut:?}"
            );
        }
        let refusal = store.stats().unwrap().kv_io_refusal;
        assert_eq!(refusal, kv_io.obstacle(dir.path()), "the file is to blame");
    }
}

#[test]
fn a_reader_outlives_its_file_in_every_way() {
    for kv_io in KvIo::ALL {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path(), kv_io);
        let reader = open_blob(&store, 1).unwrap();
        assert!(store.remove_document("sealed").unwrap());
        assert_eq!(segment_files(dir.path()).len(), 1, "unlinked");
        assert_layers(&reader, 1);
    }
}

#[test]
fn a_buffer_of_another_length_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), KvIo::Auto);
    let reader = open_blob(&store, 1).unwrap();
    for (layer, len) in [
        (0, LAYER_BYTES - 1),
        (0, LAYER_BYTES + 4096),
        (3, LAYER_BYTES),
    ] {
        let refused = reader.read_layer_into(layer, &mut vec![0; len]);
        assert!(
            matches!(refused, Err(StoreError::InvalidBlob { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(store.stats().unwrap().misses.total(), 0);
}

#[test]
fn a_device_error_is_an_error_and_does_not_change_the_way_to_read() {
    for kv_io in [KvIo::Pread, KvIo::Direct] {
        let dir = tempfile::tempdir().unwrap();
        put(&open(dir.path()), "d", &[1]);
        let disk = Arc::new(FaultyDisk::sound());
        let on = Arc::clone(&disk) as Arc<dyn Disk>;
        let store = Store::open_on(dir.path(), with_io(kv_io), on).unwrap();
        let reader = open_blob(&store, 1).unwrap();
        disk.failing_reads.store(1, Ordering::SeqCst);
        let failed = read(&reader, 0);
        assert!(
            matches!(failed, Err(StoreError::Io { .. })),
            "{kv_io}: {failed:?}"
        );
        assert_layers(&reader, 1);
        let stats = store.stats().unwrap();
        assert_eq!((stats.misses.io, stats.kv_io_refusal), (1, None));
    }
}

/// A system that allows neither direct IO nor `io_uring`: what some network and container file
/// systems, and most container runtimes, are like.
struct Plain {
    /// The file opens for direct IO, and then refuses every read.
    refuses_late: bool,
}

impl Disk for Plain {
    fn create_new(&self, path: &Path) -> io::Result<fs_err::File> {
        OsDisk.create_new(path)
    }

    fn write_at(&self, file: &fs_err::File, bytes: &[u8], offset: u64) -> io::Result<()> {
        OsDisk.write_at(file, bytes, offset)
    }

    fn sync_data(&self, file: &fs_err::File) -> io::Result<()> {
        OsDisk.sync_data(file)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.sync_dir(path)
    }

    fn read_at(&self, file: &fs_err::File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match file.path().ends_with("direct") {
            true => Err(io::Error::from_raw_os_error(22)), // EINVAL
            false => OsDisk.read_at(file, bytes, offset),
        }
    }

    fn open_direct(&self, path: &Path) -> io::Result<fs_err::File> {
        if self.refuses_late {
            let file = std::fs::File::open(path)?;
            return Ok(fs_err::File::from_parts(file, "direct"));
        }
        Err(io::Error::from_raw_os_error(22))
    }

    fn read_queued_at(&self, _: &fs_err::File, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "not permitted"))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        OsDisk.free_bytes(path)
    }
}

#[test]
fn what_the_system_refuses_is_read_with_pread_and_reported() {
    for (kv_io, refuses_late, why) in [
        (KvIo::Direct, false, "the file system refuses direct reads"),
        (KvIo::Direct, true, "the file system refuses direct reads"),
        (
            KvIo::Uring,
            false,
            "the system refuses io_uring: not permitted",
        ),
        (
            KvIo::Uring,
            true,
            "the system refuses io_uring: not permitted",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        put(&open(dir.path()), "d", &[1]);
        let disk = Arc::new(Plain { refuses_late });
        let store = Store::open_on(dir.path(), with_io(kv_io), disk).unwrap();
        assert_eq!(
            store.stats().unwrap().kv_io_refusal,
            None,
            "nothing was read yet"
        );
        assert_layers(&open_blob(&store, 1).unwrap(), 1);
        let refusal = store.stats().unwrap().kv_io_refusal;
        let refusal = refusal.expect("it is said");
        assert!(refusal.starts_with(why), "{refusal}");
    }
}

#[test]
fn ways_are_named_as_they_are_written() {
    for kv_io in KvIo::ALL {
        assert_eq!(kv_io.to_string().parse(), Ok(kv_io));
    }
    let error = "odirect".parse::<KvIo>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"odirect\" is not one of auto, pread, direct, uring, mmap"
    );
}
