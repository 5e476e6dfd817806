//! The folder of segment files, and which of them are open.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::file::SegmentFile;
use crate::disk::DynDisk;

/// Most unused segment files kept open for reading.
const MAX_IDLE_SEGMENTS: usize = 256;
const EXTENSION: &str = "seg";

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

    /// Ids of the segment files in the folder, in ascending order. Other files are ignored.
    pub(crate) fn list(&self) -> io::Result<Vec<u64>> {
        let mut ids = Vec::new();
        for entry in fs_err::read_dir(&self.dir)? {
            let path = entry?.path();
            match self.parse_path(&path) {
                Some(id) => ids.push(id),
                None => tracing::warn!(path = %path.display(), "not a segment file: ignored"),
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
        segment.seal(); // a segment that is still being written is always in the map
        Ok(self.keep(segment))
    }

    /// Creates the segment file `id`, open for reading and writing.
    pub(super) fn create(&self, id: u64) -> io::Result<Arc<SegmentFile>> {
        let path = self.path(id);
        let file = self.disk.create_new(&path)?;
        Ok(self.keep(SegmentFile::new(id, path, file)))
    }

    fn keep(&self, segment: Arc<SegmentFile>) -> Arc<SegmentFile> {
        let mut open = self.open_files();
        if open.len() >= MAX_IDLE_SEGMENTS {
            // A file in use has another owner besides this map; pinned files are in use.
            open.retain(|_, file| Arc::strong_count(file) > 1);
        }
        Arc::clone(open.entry(segment.id).or_insert(segment))
    }

    /// Whether a blob in this segment still waits for its commit.
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
        // The map is consistent at every point where a panic could happen.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
