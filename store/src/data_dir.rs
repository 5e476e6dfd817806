//! The data directory: its folders, its lock, and what it is, judged by its marker (`marker.rs`).

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::error::StoreError;
use crate::identity::Fields;
use crate::marker::{MAX_MARKER_BYTES, is_marker, marker_text, parse_marker, read_marker};

const LOCK_FILE: &str = "LOCK";
pub(crate) const FORMAT_FILE: &str = "FORMAT";
/// A configuration that may be put into the directory before the store is made. The store itself
/// never reads it.
const CONFIG_FILE: &str = "ragweave.toml";
/// Folder of the RocksDB database inside a data directory.
pub(crate) const META_DIR: &str = "meta";
/// Folder of the segment files inside a data directory.
pub(crate) const SEGMENT_DIR: &str = "segments";

/// An exclusive `flock` on the data directory, released when dropped or when the process ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: fs_err::File,
}

impl DirLock {
    pub(crate) fn acquire(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(LOCK_FILE);
        let mut options = fs_err::OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = file.map_err(StoreError::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked {
                path: dir.to_owned(),
            }),
            Err(std::fs::TryLockError::Error(source)) => Err(StoreError::Io { path, source }),
        }
    }
}

/// What the directory is, judged before anything in it is opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DirState {
    /// Missing, empty, or left by a creation that was interrupted.
    New,
    /// A store that this program reads.
    Store(Fields),
}

/// Looks at the format marker. Errors: `NotAStore` for a directory of something else,
/// `UnsupportedVersion` and `UnsupportedRequirement` for a later format.
pub(crate) fn inspect_dir(dir: &Path) -> Result<DirState, StoreError> {
    let marker = dir.join(FORMAT_FILE);
    match read_marker(&marker) {
        Ok(text) => parse_marker(dir, &text).map(DirState::Store),
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_new(dir),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(not_a_store(dir)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(not_a_store(dir)),
        Err(source) => Err(StoreError::Io {
            path: marker,
            source,
        }),
    }
}

/// Whether a folder is a data directory of ragweave, of any version, judged by its marker.
pub fn is_data_directory(dir: &Path) -> bool {
    let marker = dir.join(FORMAT_FILE);
    // Anything can be called `FORMAT`: reading a pipe would block, and a large file is not ours.
    let is_small = |file: std::fs::Metadata| file.is_file() && file.len() <= MAX_MARKER_BYTES;
    fs_err::metadata(&marker).is_ok_and(is_small)
        && read_marker(&marker).is_ok_and(|text| is_marker(&text))
}

/// What the KV of the store in `dir` was made with, by name; `None` if there is no store yet. Opens
/// nothing, so a process that holds the directory does not matter. A store of version 1 has no fields.
///
/// Errors: as those of `Store::open` that concern the marker.
pub fn stored_fields(dir: &Path) -> Result<Option<Fields>, StoreError> {
    match inspect_dir(dir)? {
        DirState::New => Ok(None),
        DirState::Store(fields) => Ok(Some(fields)),
    }
}

/// A directory without the marker may become a store only if it holds nothing but a configuration
/// and what an interrupted creation may have left.
fn check_new(dir: &Path) -> Result<DirState, StoreError> {
    let entries = match fs_err::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DirState::New),
        Err(source) => {
            return Err(StoreError::Io {
                path: dir.to_owned(),
                source,
            });
        }
    };
    for entry in entries {
        let name = entry.map_err(StoreError::io(dir))?.file_name();
        let ours = [
            LOCK_FILE,
            META_DIR,
            SEGMENT_DIR,
            &temporary_name(FORMAT_FILE),
            CONFIG_FILE,
        ];
        if !ours.iter().any(|known| name == *known) {
            return Err(not_a_store(dir));
        }
    }
    Ok(DirState::New)
}

pub(crate) fn not_a_store(dir: &Path) -> StoreError {
    StoreError::NotAStore {
        path: dir.to_owned(),
    }
}

/// Writes the format marker. This is the last step of making a store: if the marker is there, all
/// the rest is.
pub(crate) fn write_marker(dir: &Path, fields: &Fields, disk: &dyn Disk) -> Result<(), StoreError> {
    let path = dir.join(FORMAT_FILE);
    let temporary = dir.join(temporary_name(FORMAT_FILE));
    let write = || {
        fs_err::write(&temporary, marker_text(fields)?)?;
        fs_err::File::open(&temporary)?.sync_all()?;
        fs_err::rename(&temporary, &path)?;
        disk.sync_dir(dir)
    };
    write().map_err(StoreError::io(&path))
}

fn temporary_name(name: &str) -> String {
    format!("{name}.new")
}

/// Makes the data directory and its segment folder.
pub(crate) fn create_dirs(dir: &Path) -> Result<PathBuf, StoreError> {
    let segments = dir.join(SEGMENT_DIR);
    fs_err::create_dir_all(&segments).map_err(StoreError::io(&segments))?;
    Ok(segments)
}
