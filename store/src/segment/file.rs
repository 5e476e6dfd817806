//! One open segment file, and the pins that protect it while a blob in it waits for its commit.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use memmap2::Mmap;

use crate::disk::DynDisk;

/// An open segment file.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) id: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: fs_err::File,
    /// Blobs appended and not yet committed.
    pins: AtomicU64,
    /// A sync failed for lack of space, so everything not synced before is lost.
    abandoned: AtomicBool,
    /// The file is complete: nothing writes to it any more.
    sealed: AtomicBool,
    /// The same file opened for direct reads, after the first such read. `None` if it could no longer
    /// be opened, an error if the file system refused.
    direct: OnceLock<io::Result<Option<fs_err::File>>>,
    /// Memory map of the whole file, after the first read through it.
    map: OnceLock<Mmap>,
}

impl SegmentFile {
    pub(super) fn new(id: u64, path: PathBuf, file: fs_err::File) -> Arc<Self> {
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

    /// Marks the file as complete: its last byte has been written.
    pub(super) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// The file opened for direct reads, bypassing the page cache. `None` if it can no longer be
    /// opened: it may have been unlinked, while `file` is still valid.
    ///
    /// # Errors
    /// If the file system refuses direct reads.
    pub(super) fn direct(&self, disk: &DynDisk) -> Result<Option<&fs_err::File>, &io::Error> {
        let open = || match disk.open_direct(&self.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        self.direct.get_or_init(open).as_ref().map(Option::as_ref)
    }

    /// A memory map of the whole file; `None` until it is sealed.
    #[expect(unsafe_code, reason = "memory maps are unsafe to make")]
    pub(super) fn map(&self) -> io::Result<Option<&Mmap>> {
        if let Some(map) = self.map.get() {
            return Ok(Some(map));
        }
        if !self.sealed.load(Ordering::Acquire) {
            return Ok(None);
        }
        // SAFETY: the file is sealed, so this process does not change it, and this process holds the
        // directory's lock, so no other ragweave does. Another program still could: readers therefore
        // verify a copy, and the documentation of `KvIo::Mmap` names the remaining risk.
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
    pub(super) fn new(file: &Arc<SegmentFile>) -> Self {
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
