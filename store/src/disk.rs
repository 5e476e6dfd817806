//! File operations of the store. Everything that can fail is one trait, so that tests can make the
//! n-th operation fail.

use std::io;
use std::path::Path;
use std::sync::Arc;

use fs_err::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use crate::uring;

/// Operations of the store on segment files and their directory. [`OsDisk`] is the real disk.
///
/// Errors of kind `StorageFull` or `QuotaExceeded` mean that there was no space; any other failure
/// to write or sync makes the store read-only.
pub trait Disk: Send + Sync {
    /// Creates a file that must not exist, for reading and writing.
    fn create_new(&self, path: &Path) -> io::Result<fs_err::File>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &fs_err::File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file's data and size durable (`fdatasync`).
    fn sync_data(&self, file: &fs_err::File) -> io::Result<()>;
    /// Makes the directory's entries durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Fills `bytes` from `offset`; if the file is too short, an error of kind `UnexpectedEof`.
    fn read_at(&self, file: &fs_err::File, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Opens a file for reads that bypass the page cache. Their buffers, offsets and lengths must be
    /// whole pages. `InvalidInput` if the file system does not support it.
    fn open_direct(&self, path: &Path) -> io::Result<fs_err::File> {
        open_direct(path)
    }
    /// As `read_at`, but in pieces that are read concurrently, with `io_uring`. `Unsupported` if
    /// the system does not have it or forbids it.
    fn read_queued_at(&self, file: &fs_err::File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        uring::read_at(file, bytes, offset)
    }
    /// Bytes that an unprivileged process may still write below `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// Shared handle to the disk in use.
pub(crate) type DynDisk = Arc<dyn Disk>;

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn create_new(&self, path: &Path) -> io::Result<fs_err::File> {
        fs_err::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
    }

    fn write_at(&self, file: &fs_err::File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync_data(&self, file: &fs_err::File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs_err::File::open(path)?.sync_all()
    }

    fn read_at(&self, file: &fs_err::File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        file.read_exact_at(bytes, offset)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> io::Result<fs_err::File> {
    // Lossless: a single flag bit.
    let flag = rustix::fs::OFlags::DIRECT.bits() as i32;
    fs_err::OpenOptions::new()
        .read(true)
        .custom_flags(flag)
        .open(path)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_: &Path) -> io::Result<fs_err::File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether an IO error means that there is no space, rather than that the device failed.
pub(crate) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
