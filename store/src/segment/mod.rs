//! Segment files: append-only while this process writes them, immutable afterwards, deleted only
//! by unlink, so that a descriptor once opened stays valid.

mod blocks;
pub mod format;
mod reader;
mod scan;
pub(crate) mod uring;
mod writer;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use memmap2::Mmap;

pub(crate) use blocks::BlockReads;
pub(crate) use format::RecordLayout;
pub use reader::BlobReader;
pub(crate) use reader::{OpenRecord, check_record, open_record};
pub(crate) use scan::{check_structure, newest_mark};
pub(crate) use writer::{Append, SegmentWriter, WriteFailure};

use crate::fs::DynDisk;

/// Most segment files kept open for reading when nobody uses them.
const MAX_IDLE_SEGMENTS: usize = 256;
const EXTENSION: &str = "seg";

/// An open segment file.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) id: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: fs_err::File,
    /// Blobs appended and not yet committed.
    pins: AtomicU64,
    /// A sync failed for want of space: what was not synced before is lost.
    abandoned: AtomicBool,
    /// Nobody writes to it any more.
    sealed: AtomicBool,
    /// The same file past the page cache, once somebody reads it that way; `None` where it cannot
    /// be opened any more, an error where the file system refuses.
    direct: OnceLock<io::Result<Option<fs_err::File>>>,
    /// Map of the whole file, once somebody reads it that way.
    map: OnceLock<Mmap>,
}

impl SegmentFile {
    fn new(id: u64, path: PathBuf, file: fs_err::File) -> Arc<Self> {
        Arc::new(Self {
            id,
            path,
            file,
            pins: AtomicU64::new(0),
            abandoned: AtomicBool::new(false),
            sealed: AtomicBool::new(false),
            direct: OnceLock::new(),
            map: OnceLock::new(),
        })
    }

    /// Says that the last byte has been written.
    fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// The file past the page cache. `None` where it cannot be opened now: it may be unlinked, while
    /// `file` goes on to be good.
    ///
    /// # Errors
    /// Where the file system refuses that way of reading.
    fn direct(&self, disk: &DynDisk) -> Result<Option<&fs_err::File>, &io::Error> {
        let open = || match disk.open_direct(&self.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        self.direct.get_or_init(open).as_ref().map(Option::as_ref)
    }

    /// A map of the whole file; `None` while it is written.
    #[expect(unsafe_code, reason = "memory maps are unsafe to make")]
    fn map(&self) -> io::Result<Option<&Mmap>> {
        if let Some(map) = self.map.get() {
            return Ok(Some(map));
        }
        if !self.sealed.load(Ordering::Acquire) {
            return Ok(None);
        }
        // SAFETY: the file is sealed, so this process does not change it, and it holds the directory's
        // lock, so no other ragweave does. Somebody else still could: readers copy and verify the
        // copy, and the documentation of `KvIo::Mmap` names what remains.
        let map = unsafe { Mmap::map(self.file.file()) }?;
        Ok(Some(self.map.get_or_init(|| map)))
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Acquire) > 0
    }

    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }
}

/// Keeps a segment from being reclaimed while a blob in it waits for its commit.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) file: Arc<SegmentFile>,
}

impl Pin {
    fn new(file: &Arc<SegmentFile>) -> Self {
        file.pins.fetch_add(1, Ordering::AcqRel);
        Self {
            file: Arc::clone(file),
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.file.pins.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The folder of segment files, with those that are open.
pub(crate) struct Segments {
    dir: PathBuf,
    disk: DynDisk,
    open: Mutex<HashMap<u64, Arc<SegmentFile>>>,
}

impl Segments {
    pub(crate) fn new(dir: PathBuf, disk: DynDisk) -> Self {
        Self {
            dir,
            disk,
            open: Mutex::default(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn disk(&self) -> &DynDisk {
        &self.disk
    }

    pub(crate) fn path(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:016x}.{EXTENSION}"))
    }

    /// Ids of the segment files in the folder, in ascending order. Other files are left alone.
    pub(crate) fn list(&self) -> io::Result<Vec<u64>> {
        let mut ids = Vec::new();
        for entry in fs_err::read_dir(&self.dir)? {
            let path = entry?.path();
            match self.parse_path(&path) {
                Some(id) => ids.push(id),
                None => tracing::warn!(path = %path.display(), "not a segment file, left alone"),
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn parse_path(&self, path: &Path) -> Option<u64> {
        let id = u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()?;
        (self.path(id) == path).then_some(id)
    }

    /// The segment file `id`, opened for reading unless it is open already.
    pub(crate) fn get(&self, id: u64) -> io::Result<Arc<SegmentFile>> {
        if let Some(file) = self.open_files().get(&id) {
            return Ok(Arc::clone(file));
        }
        let path = self.path(id);
        let segment = SegmentFile::new(id, path.clone(), fs_err::File::open(path)?);
        segment.seal(); // what this process writes stays in the map until it is sealed
        Ok(self.keep(segment))
    }

    /// Creates the segment file `id`, open for reading and writing.
    fn create(&self, id: u64) -> io::Result<Arc<SegmentFile>> {
        let path = self.path(id);
        let file = self.disk.create_new(&path)?;
        Ok(self.keep(SegmentFile::new(id, path, file)))
    }

    fn keep(&self, segment: Arc<SegmentFile>) -> Arc<SegmentFile> {
        let mut open = self.open_files();
        if open.len() >= MAX_IDLE_SEGMENTS {
            // A file in use, and so every pinned one, is held by somebody beside this map.
            open.retain(|_, file| Arc::strong_count(file) > 1);
        }
        Arc::clone(open.entry(segment.id).or_insert(segment))
    }

    /// Whether a blob of this segment still waits for its commit.
    pub(crate) fn is_pinned(&self, id: u64) -> bool {
        self.open_files()
            .get(&id)
            .is_some_and(|file| file.is_pinned())
    }

    /// Unlinks a segment file. Readers that have it open keep their descriptor.
    pub(crate) fn unlink(&self, id: u64) -> io::Result<()> {
        self.open_files().remove(&id);
        match fs_err::remove_file(self.path(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn open_files(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<SegmentFile>>> {
        // The map is whole at every point where a panic could happen.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
